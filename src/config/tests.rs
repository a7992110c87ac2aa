//! The promises of the whole module: layers, one report of all faults, and no secret shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use secrecy::ExposeSecret;
use serde_json::Value;

use super::*;

mod example;

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rowcrew-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn env(variables: &[(&str, &str)]) -> BTreeMap<String, std::ffi::OsString> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

/// Loads a file's text under the name `rowcrew.toml`, which is how faults then show it.
fn load(toml: &str, variables: &[(&str, &str)], flags: Overrides) -> Result<Config, String> {
    let dir = Dir::new();
    let file = dir.write("rowcrew.toml", toml);
    let sources = Sources { file: Some(file), env: env(variables), flags, ..Sources::default() };
    Config::load(&sources).map_err(|faults| faults.to_string().replace(&format!("{}/", dir.0.display()), ""))
}

fn file(toml: &str) -> Result<Config, String> {
    load(toml, &[], Overrides::default())
}

fn variables(variables: &[(&str, &str)]) -> Result<Config, String> {
    load("", variables, Overrides::default())
}

fn defaults() -> Config {
    Config::load(&Sources::default()).expect("the defaults are lawful")
}

#[test]
fn later_layers_win_and_each_value_names_its_source() {
    let toml = "database_url = 'postgres://file/a'\nschema = 'a'\n[worker]\nconcurrency = 1\nname = 'a'\n";
    let given = [
        ("DATABASE_URL", "postgres://plain/b"),
        ("ROWCREW_WORKER__CONCURRENCY", "2"),
        ("ROWCREW_WORKER__NAME", "b"),
    ];
    let flags = Overrides { concurrency: Some(3), queues: vec!["x".into()], ..Overrides::default() };
    let config = load(toml, &given, flags).expect("lawful");
    assert_eq!(config.database_url().expect("set").expose_secret(), "postgres://plain/b");
    assert_eq!((config.schema.as_str(), config.worker.name.as_str()), ("a", "b"));
    assert_eq!((config.worker.concurrency, config.worker.queues.as_slice()), (3, &["x".to_owned()][..]));
    assert_eq!(config.worker.poll_ms, 1000);

    let shown = config.show();
    for line in [
        "rowcrew.toml:2",
        "concurrency = 3  # --concurrency",
        "name = \"b\"  # ROWCREW_WORKER__NAME",
        "poll_ms = 1000  # default",
        "database_url = \"postgres://plain/b\"  # DATABASE_URL",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    let both =
        variables(&[("DATABASE_URL", "postgres://plain/b"), ("ROWCREW_DATABASE_URL", "postgres://own/c")]);
    assert_eq!(both.expect("lawful").database_url().expect("set").expose_secret(), "postgres://own/c");
}

#[test]
fn all_faults_come_in_one_report_with_source_and_key() {
    let toml = "schema = 'pg_x'\n[worker]\nconcurrency = 0\nconcurency = 5\nqueues = 'a'\n\
                [log]\nlevel = 'debgu'\nformat = 'xml'\n\
                [handlers.'email.send']\ntype = 'http'\nurl = 'ftp://x'\ntimout = '5s'\nmax_attempts = 1.5\n\
                [handlers.b]\ntype = 'pull'\n[handlers.c]\ntimeout = '8d'\n[handlers.d]\ntype = 'htp'\n\
                [extra]\n";
    let given = [("ROWCREW_DATABASE__POOL_SIZE", "many"), ("ROWCREW_WORKER_POLL_MS", "5")];
    let flags = Overrides { drain_ms: Some(u64::MAX), ..Overrides::default() };
    let report = load(toml, &given, flags).expect_err("faults");
    let lines: Vec<_> = report.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "configuration: 17 faults",
            "rowcrew.toml:1: schema starts with pg_: Postgres keeps such names for itself",
            "rowcrew.toml:5: worker.queues is a string: expected a list of strings",
            "rowcrew.toml:3: worker.concurrency is 0: expected 1 to 20000",
            "--drain-ms: worker.drain_ms is 18446744073709551615: expected 0 to 3600000",
            "rowcrew.toml:4: worker.concurency is unknown; did you mean concurrency?",
            "ROWCREW_DATABASE__POOL_SIZE: database.pool_size is \"many\": expected a whole number, 2 to 100",
            "rowcrew.toml:7: log.level has no level \"debgu\": expected one of off, error, warn, info, debug, \
             trace; did you mean debug?",
            "rowcrew.toml:8: log.format is \"xml\": expected one of text, json",
            "rowcrew.toml:15: handlers.b.type is \"pull\": not yet supported in this version",
            "rowcrew.toml:17: handlers.c.timeout is \"8d\": expected 1ms to 7d",
            "rowcrew.toml:16: handlers.c.type is missing: expected one of http, command, process, sql, sleep, block, noop, \
             echo, fail",
            "rowcrew.toml:19: handlers.d.type is \"htp\": expected one of http, command, process, sql, sleep, block, noop, \
             echo, fail; did you mean http?",
            "rowcrew.toml:13: handlers.\"email.send\".max_attempts is a number with a fraction: expected a \
             whole number, 1 to 10000",
            "rowcrew.toml:11: handlers.\"email.send\".url has the scheme ftp: expected http or https",
            "rowcrew.toml:12: handlers.\"email.send\".timout is unknown; did you mean timeout?",
            "rowcrew.toml:20: extra is unknown",
            "ROWCREW_WORKER_POLL_MS: worker_poll_ms is unknown; did you mean ROWCREW_WORKER__POLL_MS?",
        ]
    );
}

#[test]
fn two_handlers_of_one_kind_are_refused_beside_other_faults() {
    let report = file(
        "[handlers.nap]\ntype = 'sleep'\n[handlers.nap]\ntype = 'sql'\nstatement = 'select'\n\
         [worker]\nconcurrency = 0\n",
    );
    assert_eq!(
        report.expect_err("faults"),
        "configuration: 2 faults\n  rowcrew.toml:3: [handlers.nap] is there twice\n  \
         rowcrew.toml:7: worker.concurrency is 0: expected 1 to 20000"
    );
}

#[test]
fn broken_toml_is_named_by_line_and_never_quoted() {
    let report =
        file("schema = 'a'\ndatabase_url = 'postgres://ann:hunter2@db/app\n[worker]\nconcurrency = 0\n");
    let report = report.expect_err("faults");
    assert!(report.contains("rowcrew.toml:2: is no TOML: "), "{report}");
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("rowcrew.toml:4: worker.concurrency is 0"), "{report}");
    for value in [
        "postgres://ann:hunter2@db",
        "hunter2",
        "[hunter2",
        "'a' hunter2",
        "1hunter2",
        "\"\\hunter2\"",
        "{hunter2",
    ] {
        let report = file(&format!("database_url = {value}\n")).expect_err(value);
        assert!(report.contains("rowcrew.toml:") && !report.contains("hunter2"), "{report}");
    }
    let sources = Sources { env: env(&[("DATABASE_URL", "hunter2")]), ..Sources::default() };
    assert!(!format!("{sources:?}").contains("hunter2"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_and_an_absent_one_only_if_asked_for() {
    let dir = Dir::new();
    let asked = Sources { file: Some(dir.0.join("none.toml")), ..Sources::default() };
    let report = Config::load(&asked).expect_err("absent").to_string();
    assert!(report.contains("none.toml: cannot be read: No such file"), "{report}");

    let present = dir.write("second.toml", "schema = 'second'");
    let places = vec![dir.0.join("none.toml"), present, dir.write("third.toml", "schema = 'third'")];
    let config = Config::load(&Sources { places, ..Sources::default() }).expect("lawful");
    assert_eq!(config.schema, "second");

    let binary = Sources { places: vec![dir.write("binary.toml", [0xff, 0xfe])], ..Sources::default() };
    assert!(Config::load(&binary).expect_err("binary").to_string().contains("is not UTF-8 text"));
    let folder = Sources { places: vec![dir.0.clone()], ..Sources::default() };
    assert!(Config::load(&folder).expect_err("a directory").to_string().contains("cannot be read"));
}

#[test]
fn the_environment_is_text_and_takes_the_type_of_its_key() {
    let config = load(
        "[handlers.'email.send']\ntype = 'http'\nurl = 'http://x'\nheaders = { X-Key = 'a' }\n\
         [handlers.Run]\ntype = 'command'\ncommand = ['a']\n",
        &[
            ("ROWCREW_SCHEMA", "00123"),
            ("ROWCREW_WORKER__NAME", "true"),
            ("ROWCREW_WORKER__QUEUES", "1,mail"),
            ("ROWCREW_WORKER__CONCURRENCY", "007"),
            ("ROWCREW_DATABASE__PREPARE", "TRUE"),
            ("ROWCREW_LOG__FORMAT", ""),
            ("ROWCREW_HANDLERS__EMAIL_SEND__SECRET", "00123"),
            ("ROWCREW_HANDLERS__EMAIL_SEND__HEADERS__X_KEY", "1"),
            ("ROWCREW_HANDLERS__EMAIL_SEND__BACKOFF", "{type = 'fixed', delay_ms = 5}"),
            ("ROWCREW_HANDLERS__RUN__COMMAND", "['a', 'b,c']"),
            ("ROWCREW_HANDLERS__RUN__ENV__FOO", "2"),
            ("ROWCREW_HANDLERS__RUN__BACKOFF__TYPE", "fixed"),
            ("ROWCREW_HANDLERS__RUN__BACKOFF__DELAY_MS", "7"),
        ],
        Overrides::default(),
    );
    let config = config.expect("lawful");
    assert_eq!((config.schema.as_str(), config.worker.name.as_str()), ("00123", "true"));
    assert_eq!((config.worker.queues, config.worker.concurrency), (vec!["1".into(), "mail".into()], 7));
    let (mail, run) = (&config.handlers["email.send"], &config.handlers["Run"]);
    let Run::Http(http) = &mail.run else { panic!("{mail:?}") };
    assert_eq!(http.credentials.secrets[0].expose_secret(), "00123");
    assert_eq!((http.headers.len(), http.headers["X-Key"].expose_secret()), (1, "1"));
    let Run::Command(command) = &run.run else { panic!("{run:?}") };
    assert_eq!(
        (command.command.as_slice(), command.env["FOO"].expose_secret()),
        (&["a".into(), "b,c".into()][..], "2")
    );
    let delay = |handler: &Handler| handler.backoff.delay_after(1, std::time::Duration::ZERO, 0.0);
    assert_eq!((delay(mail), delay(run)).0.map(|d| d.as_millis()), Some(5));
    assert_eq!(delay(run).map(|d| d.as_millis()), Some(7));
}

#[test]
fn variables_of_the_platform_are_passed_over_and_slips_are_not() {
    let of_platform = [
        ("ROWCREW_PORT", "tcp://10.0.0.1:80"),
        ("ROWCREW_SERVICE_HOST", "10.0.0.1"),
        ("ROWCREW_PORT_5432_TCP_ADDR", "10.0.0.1"),
        ("ROWCREW_JOB_ID", "5"),
        ("ROWCREW_CONFIG", "x"),
        ("PATH", "/bin"),
    ];
    assert!(variables(&of_platform).is_ok());
    for (name, meant) in [
        ("ROWCREW_DATABSE_URL", "ROWCREW_DATABASE_URL"),
        ("ROWCREW_DATABASE__URL", "ROWCREW_DATABASE_URL"),
        ("ROWCREW_WORKR__CONCURRENCY", "ROWCREW_WORKER__CONCURRENCY"),
        ("ROWCREW_WORKER__CONCURENCY", "ROWCREW_WORKER__CONCURRENCY"),
    ] {
        let report = variables(&[(name, "5")]).expect_err(name);
        assert!(
            report.contains(&format!("{name}: ")) && report.contains(&format!("did you mean {meant}?")),
            "{report}"
        );
    }
    let report = variables(&[("ROWCREW_LOG", "debug"), ("ROWCREW_LOG__LEVEL", "info")]).expect_err("both");
    assert!(report.contains("ROWCREW_LOG: is set beside ROWCREW_LOG__LEVEL"), "{report}");
    let report = variables(&[("ROWCREW_LOG", "debug")]).expect_err("a section");
    assert!(report.contains("ROWCREW_LOG: log is a string: expected a table"), "{report}");
}

#[test]
fn a_kind_with_dots_is_one_kind() {
    let config = file("[handlers.'a.b.c']\ntype = 'echo'\n[handlers.a]\ntype = 'noop'\n").expect("lawful");
    assert_eq!(config.handlers.keys().collect::<Vec<_>>(), ["a", "a.b.c"]);
    // Unquoted it is a table in a table, which says what is wrong.
    let report = file("[handlers.a.b]\ntype = 'echo'\n").expect_err("nested");
    assert!(report.contains("handlers.a.type is missing"), "{report}");
}

#[test]
fn each_bad_value_of_a_handler_is_named() {
    for (toml, words) in [
        ("type = 'http'", "handlers.k.url is missing"),
        ("type = 'http'\nurl = 'nowhere'", "handlers.k.url is no URL"),
        ("type = 'http'\nurl = 'http://a:pw@x'", "handlers.k.url holds a user or password"),
        ("type = 'http'\nurl = 'http://x'\nsecret = ' '", "handlers.k.secret is empty"),
        (
            "type = 'http'\nurl = 'http://x'\nsecret = 'pw'\nsecret_files = ['/none']",
            "is given beside secret",
        ),
        ("type = 'http'\nurl = 'http://x'\nsecret_file = '/none'", "names \"/none\", which cannot be read"),
        ("type = 'http'\nurl = 'http://x'\nheaders = { 'a b' = 'pw' }", "is no header name"),
        ("type = 'http'\nurl = 'http://x'\nheaders = { a = 5 }", "headers.a is a number: expected a string"),
        ("type = 'http'\nurl = 'http://x'\nheaders = { a = 'x', A = 'y' }", "names \"a\" twice"),
        ("type = 'http'\nurl = 'http://x/{a'", "handlers.k.url has a brace without its other"),
        (
            "type = 'http'\nurl = '{a}'",
            "handlers.k.url lets the payload choose the host: expected allow_hosts",
        ),
        ("type = 'http'\nurl = '{a}'\nallow_hosts = ['http://x']", "handlers.k.allow_hosts has"),
        ("type = 'http'\nurl = 'http://x'\nallow_networks = ['x']", "handlers.k.allow_networks has"),
        ("type = 'http'\nurl = 'http://x'\nmethod = 'HEAD'", "handlers.k.method is \"HEAD\""),
        ("type = 'http'\nurl = 'http://x'\nhost_concurrency = 0", "expected 1 to 20000"),
        ("type = 'http'\nurl = 'http://x'\nconnect_timeout = '2m'", "expected 100ms to 1m"),
        ("type = 'http'\nurl = 'http://x'\nbearer = 'pw'\nbasic_user = 'a'", "is given beside bearer"),
        ("type = 'http'\nurl = 'http://x'\nbasic_user = 'a'", "handlers.k.basic_user is given alone"),
        ("type = 'http'\nurl = 'http://x'\nclient_key_file = '/none'", "expected client_cert_file as well"),
        ("type = 'http'\nurl = 'http://x'\nca_file = '/none'", "names \"/none\", which cannot be read"),
        ("type = 'command'", "handlers.k.command is missing"),
        ("type = 'command'\ncommand = []", "handlers.k.command names no program"),
        ("type = 'command'\ncommand = 'ls -l'", "handlers.k.command is a string: expected a list of strings"),
        ("type = 'command'\ncommand = ['x']\nenv = { 'A=' = 'pw' }", "is no name of an environment variable"),
        ("type = 'process'", "handlers.k.command is missing"),
        ("type = 'process'\ncommand = ['x']\nprocesses = 0", "handlers.k.processes is 0: expected 1 to 256"),
        (
            "type = 'process'\ncommand = ['x']\nconcurrency = 1001",
            "handlers.k.concurrency is 1001: expected 1",
        ),
        (
            "type = 'process'\ncommand = ['x']\nready_within = '1ms'",
            "ready_within is \"1ms\": expected 100ms",
        ),
        ("type = 'sql'", "handlers.k.statement is missing"),
        ("type = 'sleep'\nurl = 'http://x'", "handlers.k.url is unknown"),
        ("type = 'noop'\nqueue = ''", "handlers.k.queue is empty"),
        ("type = 'noop'\ntimeout = 5", "handlers.k.timeout is a number: expected a string"),
        ("type = 'noop'\nmax_attempts = 0", "handlers.k.max_attempts is 0: expected 1 to 10000"),
        ("type = 'noop'\nconcurrency = 0", "handlers.k.concurrency is 0: expected 1 to 20000"),
        ("type = 'noop'\nbackoff = { type = 'fixed' }", "handlers.k.backoff is no backoff: missing field"),
        ("type = 'noop'\nbackoff = { type = 'custom', delays_ms = [] }", "backoff has delays_ms is empty"),
    ] {
        let report = file(&format!("[handlers.k]\n{toml}\n")).expect_err(toml);
        assert!(report.contains(words) && report.contains("rowcrew.toml:"), "{toml}: {report}");
        assert!(!report.contains("pw"), "{report}");
    }
    assert!(file("handlers.k = 5").expect_err("no table").ends_with("k is a number: expected a table"));
}

#[test]
fn laws_between_keys_are_checked() {
    for (toml, words) in [
        ("[worker]\nqueues = []", "rowcrew.toml:2: worker.queues is empty"),
        ("[worker]\nqueues = ['a', 'a']", "worker.queues names \"a\" twice"),
        ("database_url = 'mysql://ann:pw@x/y'", "rowcrew.toml:1: database_url is no Postgres address"),
        (
            "database_url = 'postgres://x'\n[database]\nprepare = false",
            "rowcrew.toml:3: database.prepare is false",
        ),
    ] {
        let report = file(toml).expect_err(toml);
        assert!(report.contains(words) && !report.contains("pw"), "{report}");
    }
}

#[test]
fn a_missing_database_url_says_how_to_set_it() {
    let fault = defaults().direct_url().expect_err("unset").to_string();
    assert!(fault.contains("--database-url") && fault.contains("DATABASE_URL"), "{fault}");
}

#[test]
fn no_secret_is_shown_or_debugged() {
    let dir = Dir::new();
    let (new, old) = (dir.write("new", " hunter2-new\n"), dir.write("old", "hunter2-old\n"));
    let toml = format!(
        "database_url = 'postgres://ann:hunter2@db/app'\ndirect_url = 'host=db password=hunter2'\n\
         [handlers.a]\ntype = 'http'\nurl = 'http://x'\nsecret = 'hunter2'\n\
         headers = {{ Authorization = 'hunter2' }}\n\
         [handlers.'b.c']\ntype = 'http'\nurl = 'http://x'\nsecret_files = ['{}', '{}']\n\
         [handlers.d]\ntype = 'command'\ncommand = ['x']\nenv = {{ PASSWORD = 'hunter2' }}\n",
        new.display(),
        old.display()
    );
    let config = file(&toml).expect("lawful");
    let Run::Http(http) = &config.handlers["b.c"].run else { panic!("http") };
    let secrets: Vec<_> = http.credentials.secrets.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(secrets, ["hunter2-new", "hunter2-old"]);
    let shown = config.show();
    for text in [&shown, &format!("{config:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    for line in ["postgres://ann:***@db/app", "[handlers.\"b.c\"]", "headers = { Authorization = \"***\" }"] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    toml::from_str::<toml::Table>(&shown).expect("what is shown is TOML");
}
