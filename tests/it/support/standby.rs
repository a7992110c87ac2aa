//! A standby of a private server, which can be promoted.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rowcrew::embedded::Cluster;
use tokio_postgres::NoTls;

/// Copies the data of a running server with `pg_basebackup` and follows it.
///
/// It says by itself where the primary is: what `pg_basebackup` writes has words that a walreceiver with the system's
/// older libpq does not know. The shell that starts it ends the server and removes its folder when this process is gone.
const FOLLOW: &str = r#"
    folder=$(mktemp -d /tmp/rowcrew-standby-XXXXXX) && cd "$folder" && export HOME="$folder" || exit 1
    "$0/pg_basebackup" -R -c fast -D data -h "$1" -U postgres >log 2>&1 &&
        printf "unix_socket_directories = '%s'\n" "$folder" >>data/postgresql.conf &&
        printf "primary_conninfo = 'host=%s user=postgres'\n" "$1" >>data/postgresql.auto.conf &&
        { "$0/postgres" -D data </dev/null >>log 2>&1 & server=$!; echo "$folder"; cat >/dev/null; kill -QUIT "$server"; wait "$server"; }
    cd / && rm -rf "$folder"
"#;

/// A server that follows another one until it is promoted.
pub(crate) struct Standby {
    child: Child,
    pub folder: PathBuf,
}

impl Standby {
    /// `None`, with a line that says so, where this Postgres came without `pg_basebackup`.
    pub(crate) async fn of(primary: &Cluster) -> Option<Self> {
        let bin_dir = &primary.binaries().bin_dir;
        if !bin_dir.join("pg_basebackup").exists() {
            eprintln!("skipped: no pg_basebackup in {}", bin_dir.display());
            return None;
        }
        let owner = std::fs::metadata(primary.data_dir()).expect("its data");
        let mut command = Command::new("sh");
        command.args(["-c", FOLLOW]).arg(bin_dir).arg(primary.socket_dir()).process_group(0);
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("its folder");
        let standby = Self { child, folder: PathBuf::from(line.trim()) };
        let began = Instant::now();
        while tokio_postgres::connect(&standby.url(), NoTls).await.is_err() {
            assert!(began.elapsed() < Duration::from_mins(1), "the standby does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(standby)
    }

    /// Its URL alone.
    pub(crate) fn url(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.folder.display())
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
