//! Makes pools of connections, and closes what they should not keep open.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime, WeakPool,
};

use super::health::Health;
use super::sql::Statements;
use super::{Connector, Error, Settings, Store, session};

/// A connection that nobody has used for so long is closed. What is done once a minute keeps its own.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// All pools of a process, as long as they are there.
#[derive(Default)]
pub(super) struct Pools {
    all: Mutex<Vec<Minded>>,
}

/// Weakly: a pool holds the health, and ends with its store.
struct Minded {
    pool: WeakPool,
    /// Claims and endings go over it: without it a worker can do nothing.
    vital: bool,
}

impl Pools {
    fn mind(&self, pool: &Pool, vital: bool) {
        let minded = Minded { pool: pool.weak(), vital };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(minded);
    }

    /// Calls this with each pool, and whether it is vital.
    fn each(&self, mut each: impl FnMut(&Pool, bool)) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|minded| minded.pool.upgrade().inspect(|pool| each(pool, minded.vital)).is_some());
    }

    /// Of a vital pool the connection used last stays.
    fn close_unused_for(&self, long: Duration) {
        self.each(|pool, vital| {
            let mut left = pool.status().available;
            pool.retain(|_, metrics| {
                left = left.saturating_sub(1);
                metrics.last_used() < long || (vital && left == 0)
            });
        });
    }

    /// Closes what was opened before this moment, also what would not be lent again.
    pub(super) fn close_older(&self, than: Instant) {
        self.each(|pool, _| drop(pool.retain(|_, metrics| metrics.created > than)));
    }
}

impl Store {
    /// Closes all that this process has open and does not use, for the sake of the beat, when the server has no
    /// connection left for it; answers whether there was something.
    pub fn make_room_for_beat(&self) -> bool {
        let mut closed = 0;
        self.shared.health.pools.each(|pool, _| closed += pool.retain(|_, _| false).removed.len());
        closed > 0
    }

    /// The same for any other statement: of those for claims and endings none is closed.
    pub(super) fn make_room(&self) {
        self.shared.health.pools.each(|pool, vital| drop(pool.retain(|_, _| vital)));
    }

    /// Closes connections that nobody has used for a while; of those for claims and endings the last one stays.
    pub fn close_idle(&self) {
        self.shared.health.pools.close_unused_for(IDLE_MAX);
    }
}

/// A pool of which no connection outlives an outage, and none leads to a server that takes no writes.
///
/// Its sessions are told how long to wait for locks, and settings for the planner.
pub(super) fn pool(
    settings: &Settings,
    prepare: bool,
    (lock_timeout, planning): (Duration, &str),
    health: &Arc<Health>,
    statements: &Statements,
) -> Result<Pool, Error> {
    let connector = Connector::new(&settings.url, settings.connect_timeout)?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(connector.config().clone(), connector.tls(), recycling);
    let wait = settings.connect_timeout + settings.statement_timeout;
    let read_write = &statements.session_read_write.text;
    // Through a transaction-mode pooler a session keeps nothing: there each statement brings the settings along.
    let text = prepare
        .then(|| session::session_settings(settings.statement_timeout, lock_timeout, read_write) + planning);
    let writable: Arc<str> = statements.server_writable.text.as_str().into();
    let known = health.clone();
    let builder = Pool::builder(manager)
        .max_size(settings.pool_size)
        // The one used last: the others are seen to be idle.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(wait))
        .create_timeout(Some(settings.connect_timeout * 2))
        .recycle_timeout(Some(settings.connect_timeout))
        .pre_recycle(Hook::sync_fn(move |_, metrics| {
            let admitted = known.admits(metrics.created);
            admitted.then_some(()).ok_or_else(|| HookError::message("opened before an outage"))
        }))
        .post_create(Hook::async_fn(move |client, _| {
            let (text, writable) = (text.clone(), writable.clone());
            Box::pin(async move {
                if let Some(text) = text {
                    client.batch_execute(&text).await.map_err(HookError::Backend)?;
                }
                let takes_writes = session::takes_writes(client, &writable).await;
                if takes_writes.map_err(HookError::Backend)? {
                    Ok(())
                } else {
                    Err(HookError::message(session::READ_ONLY))
                }
            })
        }));
    let pool = builder.build().expect("a runtime is given, and nothing else can be missing");
    let vital = planning == session::ONE_PLAN;
    health.pools.mind(&pool, vital);
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::super::test_server::{Files, TestServer};
    use super::super::{ServerUrl, Via};
    use super::*;

    fn open_in(store: &Store) -> usize {
        let Via::Pool(pool) = &store.via else { unreachable!() };
        pool.status().size
    }

    /// Has each of these pools open this many connections, none of them in use any more.
    async fn use_at_once(stores: &[&Store], connections: usize) {
        for store in stores {
            let mut lent = Vec::new();
            for _ in 0..connections {
                let mut one = store.lend().await.unwrap();
                one.settled = true;
                lent.push(one);
            }
        }
        assert!(stores.iter().all(|store| open_in(store) == connections));
    }

    #[tokio::test]
    async fn connections_that_nobody_uses_are_closed_and_those_for_claims_are_the_last() {
        let server = TestServer::start(Files::new(), "", "host all all 127.0.0.1/32 trust");
        let settings = Settings {
            url: ServerUrl::parse(&format!("postgres://postgres@127.0.0.1:{}/postgres", server.port))
                .unwrap(),
            direct_url: ServerUrl::parse("postgres://127.0.0.1/postgres").unwrap(),
            schema: "rowcrew".to_owned(),
            pool_size: 4,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            prepare: true,
        };
        let store = Store::new(settings).unwrap();
        let hot = store.for_hot_path(Duration::from_secs(1)).unwrap();
        let both = [&store, &hot];
        let sizes = || both.map(open_in);

        use_at_once(&both, 3).await;
        store.close_idle();
        assert_eq!(sizes(), [3, 3], "they were just used");
        store.shared.health.pools.close_unused_for(Duration::ZERO);
        assert_eq!(sizes(), [0, 1]);

        use_at_once(&both, 3).await;
        store.make_room();
        assert_eq!(sizes(), [0, 3], "for a statement");
        use_at_once(&both, 3).await;
        let lent = hot.lend().await.unwrap();
        assert!(store.make_room_for_beat());
        assert_eq!(sizes(), [0, 1], "for the beat, all but the one in use");
        drop(lent);
        assert!(!store.make_room_for_beat(), "nothing is left");
    }
}
