-- What a worker's blocking threads do, beside its beat, so that a pool that is too small can be seen.
-- Locks: workers, for a moment; a nullable column without a default rewrites nothing.

alter table rowcrew.workers add column blocking jsonb;

comment on column rowcrew.workers.blocking is
    'Its pool of threads for blocking handlers at its last beat: threads, busy, utilisation (0 to 1, of the last minute), busy_seconds and exhausted_seconds (all of them busy) since it started. Null: it has no such handlers.';
