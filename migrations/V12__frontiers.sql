-- Adds frontiers: how far the crew has claimed, so that each of many workers need not walk over what the others took.
-- Locks: creates only; touches nothing that exists.

-- Not logged, because it may be lost: without it claims only walk further. Rows are added and, behind the newest,
-- removed; so the newest is found at once even while a long snapshot keeps all the others from being cleaned up.
create unlogged table rowcrew.frontiers (
    shard smallint not null default 0,
    queue text not null,
    priority smallint not null,
    due_at timestamptz not null,
    id bigint not null,
    moved_at timestamptz not null default now()
);
create index frontiers_newest on rowcrew.frontiers (shard, queue, priority, due_at desc, id desc);

comment on table rowcrew.frontiers is
    'How far the jobs of a queue and priority have been claimed, while many workers share a backlog. May be emptied at any time.';
comment on column rowcrew.frontiers.shard is 'As in jobs.';
comment on column rowcrew.frontiers.queue is 'As in jobs.';
comment on column rowcrew.frontiers.priority is 'As in jobs.';
comment on column rowcrew.frontiers.due_at is 'Of the last job taken, as in jobs.';
comment on column rowcrew.frontiers.id is 'Of the last job taken, as in jobs.';
comment on column rowcrew.frontiers.moved_at is 'When it was taken.';

-- Statistics from the first day, as for jobs.
insert into rowcrew.frontiers (queue, priority, due_at, id)
select 'default', n % 10, now() + n * interval '1 s', n from generate_series(1, 1000) as n;
analyze rowcrew.frontiers;
truncate rowcrew.frontiers;
