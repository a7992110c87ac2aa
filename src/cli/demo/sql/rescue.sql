select (detail ->> 'given_back')::bigint from rowcrew.events
where action = 'rescue' and detail ->> 'name' = $1
