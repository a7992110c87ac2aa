-- Puts dead jobs back to run at once, the oldest death first; those whose unique_key is taken stay dead.
--
-- Params:  $1 kind text, $2 queue text, $3 reason text, $4 at_most int4, $5 fingerprint text
-- Returns: jobs int8
-- Locks:   the rows it takes, in order of id
-- Plan:    none
select rowcrew.revive(kind => $1, queue => $2, reason => $3, at_most => $4, fingerprint => $5) as jobs
