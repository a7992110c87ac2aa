-- Keeps the lists of claimed jobs uncompressed: compressing them took a tenth of the time of a claim, and they
-- are gone within a second as a rule.
-- Locks: claims for a moment (a change of the catalogue only; rows that are there stay as they are).

alter table rowcrew.claims alter column job_ids set storage external;
