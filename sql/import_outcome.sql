-- Tells what became of an import's transaction: committed, aborted, or in progress.
--
-- Params:  $1 transaction text
-- Returns: outcome text
-- Locks:   none
-- Plan:    none
select pg_xact_status($1::text::xid8) as outcome
