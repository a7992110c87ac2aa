#!/bin/sh
# Without a JSON parser: right for payloads whose first number after "n" is what is meant. With jq it is one line more.
while IFS= read -r line; do
    id=$(printf '%s' "$line" | sed 's/^{"id":\("*[0-9]*"*\).*/\1/')
    n=$(printf '%s' "$line" | sed -n 's/.*"payload":{.*"n": *\(-*[0-9]*\).*/\1/p')
    if [ -n "$n" ]; then
        echo "{\"id\":$id,\"ok\":{\"double\":$((n * 2))}}"
    else
        echo "{\"id\":$id,\"error\":\"the payload has no n\"}"
    fi
done
