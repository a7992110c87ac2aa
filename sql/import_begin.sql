-- Tells an import its clock, and the number by which its transaction can be found if its end is not heard.
--
-- Params:  none
-- Returns: clock timestamptz, transaction text
-- Locks:   none
-- Plan:    none
select now() as clock, pg_current_xact_id()::text as transaction
