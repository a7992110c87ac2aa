//! A database that refuses to take down how jobs ended: somebody's trigger fails, a right was taken away.

use crate::support::{Crew, Db};

const CONFIG: &str = "[handlers.noop]\ntype = \"noop\"\n[handlers.echo]\ntype = \"echo\"";

/// From now on every job of kind `noop` that finishes is refused.
const REFUSE: &str = "
    create table public.refused as select 'noop' as kind;
    create function public.refuse() returns trigger language plpgsql as
        $$ begin
            if new.kind in (select r.kind from public.refused r) then
                raise 'not today' using errcode = '22P02';
            end if;
            return new;
        end $$;
    create trigger refuse before insert on rowcrew.finished_jobs for each row execute function public.refuse()";
/// The cause is mended. Not by dropping the trigger, whose locks a worker's write may be in the way of.
const MEND: &str = "delete from public.refused";

#[tokio::test]
async fn a_job_whose_end_is_refused_is_held_until_it_can_be_written_and_others_go_on() {
    let db = Db::new().await;
    db.exec(REFUSE).await;
    let worker = Crew::start(&db, CONFIG).await;
    db.exec("insert into rowcrew.jobs (kind) select case when n % 2 = 0 then 'noop' else 'echo' end from generate_series(1, 20) n").await;
    db.until("(select count(*) = 10 from rowcrew.finished_jobs where kind = 'echo')").await;
    db.until("(select count(*) = 10 from rowcrew.running)").await;
    assert!(worker.log().contains("it is held, and written when the cause is mended"), "{}", worker.log());
    db.exec(MEND).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs").await, 20);
    assert_eq!(db.one::<i32>("select max(attempts) from rowcrew.finished_jobs").await, 1);
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn a_job_whose_end_is_refused_is_found_again_when_its_worker_is_lost() {
    let db = Db::new().await;
    db.exec(REFUSE).await;
    let mut lost = Crew::start(&db, CONFIG).await;
    let id = db.insert("noop", "{}").await;
    db.until("exists (select from rowcrew.running)").await;
    lost.kill();
    let _other = Crew::start(&db, CONFIG).await;
    db.until(&format!("(select crashes = 1 from rowcrew.jobs where id = {id})")).await;
    db.exec(MEND).await;
    db.until(&format!("exists (select from rowcrew.finished_jobs where id = {id})")).await;
}
