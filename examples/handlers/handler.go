package main

import ("bufio"; "encoding/json"; "os")

type job struct { ID json.RawMessage `json:"id"`; Payload struct { N *int `json:"n"` } `json:"payload"` }

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for line, err := in.ReadBytes('\n'); err == nil; line, err = in.ReadBytes('\n') {
		var j job
		if err := json.Unmarshal(line, &j); err != nil || j.Payload.N == nil {
			out.Encode(map[string]any{"id": j.ID, "error": "the payload has no n"})
		} else { out.Encode(map[string]any{"id": j.ID, "ok": map[string]int{"double": *j.Payload.N * 2}}) }
	}
}
