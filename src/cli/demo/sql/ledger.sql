create schema demo;
create table demo.ledger (
    file bigint not null,   -- deliberately not unique: a file recorded twice would show
    path text not null,
    recorded_at timestamptz not null default clock_timestamp()
);
