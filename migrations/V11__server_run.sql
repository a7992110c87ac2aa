-- Notes on which run of which server a worker's lock was taken: after a promotion, as after a restart, the locks are
-- gone though their owners live, and the moment the standby was started says nothing about that.
-- Locks: access exclusive on workers, for a moment.

set local lock_timeout = '5s';

alter table rowcrew.workers add column locked_on timestamptz;

comment on column rowcrew.workers.locked_on is 'The start of the server that holds the lock: a lock missing on another server, or after a restart, proves nothing.';
