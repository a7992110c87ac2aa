//! Who gets which job, and whose word counts.

use proptest::prelude::*;

use super::super::super::testing::{PATIENCE, context, job};
use super::super::lines::Lines;
use super::*;
use crate::Job;

/// Two children with two jobs each in hand: 1 and 2, 3 and 4.
fn busy() -> (Arc<Pool>, Vec<Ticket>) {
    let pool = Arc::new(Pool::new(2, Some(2)));
    let mut tickets = Vec::new();
    for seat in 0..2 {
        pool.sit_down(seat, &Arc::default());
        pool.up(seat);
        tickets.extend(
            (1..=2).map(|n| pool.submit(context(Job { id: seat as i64 * 2 + n, ..job("1") }, PATIENCE))),
        );
    }
    (pool, tickets)
}

/// As the child in this seat would say it; false once it is to be ended.
fn says(pool: &Pool, seat: usize, bytes: &[u8]) -> bool {
    let heard = Lines::new(10_000).push(bytes, |line| {
        if let Some(said) = protocol::read(line, 1_000)? {
            pool.heard(seat, said)?;
        }
        Ok::<_, Rubbish>(())
    });
    heard.is_ok()
}

fn answered(tickets: &mut [Ticket]) -> Vec<JobId> {
    tickets.iter_mut().filter_map(|t| t.answer.try_recv().ok().map(|_| t.id)).collect()
}

#[test]
fn jobs_go_to_the_child_with_the_least_in_hand_and_wait_when_there_is_no_place() {
    let (pool, mut tickets) = busy();
    assert_eq!(pool.capacity(), 4);
    tickets.push(pool.submit(context(Job { id: 5, ..job("1") }, PATIENCE)));
    assert!(says(&pool, 1, b"{\"id\":4,\"ok\":1}\n"));
    let mut lines = Vec::new();
    pool.collect(1, &mut lines);
    let lines = String::from_utf8(lines).expect("text");
    let ids: Vec<_> = lines.lines().map(|line| &line[..7]).collect();
    assert_eq!(ids, ["{\"id\":3", "{\"id\":4", "{\"id\":5"]);
    assert_eq!(answered(&mut tickets), [4]);
}

#[test]
fn a_second_attempt_is_not_given_to_the_child_that_still_has_the_first_in_hand() {
    let pool = Arc::new(Pool::new(2, Some(9)));
    for seat in 0..2 {
        pool.sit_down(seat, &Arc::default());
    }
    pool.up(0);
    let first = pool.submit(context(job("1"), PATIENCE));
    let mut second = pool.submit(context(job("1"), PATIENCE));
    assert!(says(&pool, 0, b"{\"id\":42,\"ok\":1}\n"));
    drop(first);
    assert!(second.answer.try_recv().is_err(), "the answer was the first one's");
    assert!(says(&pool, 0, b"{\"id\":42,\"ok\":2}\n"));
    assert!(second.answer.try_recv().is_ok());
}

proptest! {
    #[test]
    fn no_bytes_of_a_child_panic_or_answer_a_job_of_another(
        parts in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "[{}\\[\\]\":,0-9a-z\n]{0,40}".prop_map(String::into_bytes),
            (0..6i64, "(ok|error|progress|snooze_ms|ready|id|retry|after_ms)", "(1|null|-1|1e99|\"x\"|\\{\\}|false)").prop_map(
                |(id, key, value)| format!("{{\"id\":{id},\"{key}\":{value}}}\n").into_bytes()
            ),
        ], 0..8),
    ) {
        let (pool, mut tickets) = busy();
        let bytes = parts.concat();
        says(&pool, 0, &bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for id in answered(&mut tickets) {
            prop_assert!(id <= 2 && text.contains(&format!("\"id\":{id},")), "{} answered by {}", id, text);
        }
    }
}
