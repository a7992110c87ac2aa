-- Frontiers by the kinds that are claimed: a worker does not begin behind jobs that those who took others left for it.
-- Locks: frontiers, for a moment; what is in it may be lost.
truncate rowcrew.frontiers;
alter table rowcrew.frontiers add column kinds bigint not null default 0;
drop index rowcrew.frontiers_newest;
create index frontiers_newest on rowcrew.frontiers (shard, queue, priority, kinds, due_at desc, id desc);

comment on column rowcrew.frontiers.kinds is 'A hash of the kinds that were claimed together.';

-- Statistics from the first day, as for jobs.
insert into rowcrew.frontiers (queue, priority, kinds, due_at, id)
select 'default', n % 10, n % 3, now() + n * interval '1 s', n from generate_series(1, 1000) as n;
analyze rowcrew.frontiers;
truncate rowcrew.frontiers;
