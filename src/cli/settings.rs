//! Turns the configuration into the settings of the floors below.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use secrecy::{ExposeSecret, SecretString};

use crate::SqlStatement;
use crate::config::{self, Config, Run};
use crate::handler::limits::Limits;
use crate::handler::{
    Block, CommandHandler, CommandSettings, Echo, Entry, Fail, Handler, HttpAuth, HttpHandler, HttpSettings,
    HttpTls, Noop, ProcessHandler, ProcessSettings, Registry, Runner, Sleep,
};
use crate::store::{self, Kept, OtherDatabase, ServerUrl};
use crate::text::error_chain;
use crate::worker::{self, SqlElsewhere};

/// How to reach the database.
pub(super) fn store(config: &Config) -> anyhow::Result<store::Settings> {
    let parse = |key: &str, url: &SecretString| {
        ServerUrl::parse(url.expose_secret()).with_context(|| format!("{key} is not valid"))
    };
    Ok(store::Settings {
        url: parse("database_url", config.database_url()?)?,
        direct_url: parse("direct_url", config.direct_url()?)?,
        schema: config.schema.clone(),
        pool_size: config.database.pool_size,
        connect_timeout: config.database.connect_timeout(),
        statement_timeout: config.database.statement_timeout(),
        prepare: config.database.prepare,
    })
}

/// How the worker works.
pub(super) fn worker(config: &Config) -> worker::Settings {
    worker::Settings {
        name: config.worker.name_or_host(),
        queues: config.worker.queues.clone(),
        concurrency: config.worker.concurrency,
        drain: config.worker.drain(),
        poll: config.worker.poll(),
        sql_connections: config.worker.sql_connections,
        blocking_threads: config.worker.blocking_threads,
        keep_finished: config.retention.finished_days > 0,
        program: config::program_in_memory().ok(),
    }
}

/// How long what is over is kept.
pub(super) fn kept(config: &Config) -> Kept {
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    Kept {
        finished_days: days(config.retention.finished_days),
        dead_days: days(config.retention.dead_days),
        stats_days: days(config.retention.stats_days),
    }
}

/// The handlers, ready to run.
pub(super) fn registry(config: &Config) -> anyhow::Result<Registry> {
    config.handlers.iter().try_fold(Registry::new(), |registry, (kind, handler)| {
        let runner = runner(kind, handler, config).map_err(|fault| anyhow!("handlers.{kind}: {fault}"))?;
        // Children have theirs each, and say how many jobs they can take together.
        let concurrency = handler.concurrency.filter(|_| !matches!(handler.run, Run::Process(_)));
        let entry = Entry { runner, defaults: Arc::new(handler.job_defaults()), concurrency };
        Ok(registry.with_entry(kind, entry))
    })
}

fn runner(kind: &str, handler: &config::Handler, config: &Config) -> Result<Runner, String> {
    fn of(handler: impl Handler) -> Runner {
        Runner::Handler(Arc::new(handler))
    }
    let result_bytes_max = config.limits.result_bytes_max;
    Ok(match &handler.run {
        Run::Noop => of(Noop),
        Run::Sleep => of(Sleep),
        Run::Block => Runner::Blocking(Arc::new(Block)),
        Run::Echo => of(Echo),
        Run::Fail => of(Fail),
        Run::Sql(sql) => sql_runner(kind, sql, config)?,
        Run::Http(http) => of(HttpHandler::new(&http_settings(http, result_bytes_max))?),
        Run::Command(program) => of(CommandHandler::new(command(program, result_bytes_max))?),
        Run::Process(process) => of(ProcessHandler::new(ProcessSettings {
            kind: kind.to_owned(),
            command: command(&process.program, result_bytes_max),
            processes: process.processes,
            concurrency: handler.concurrency,
            ready_within: process.ready_within,
        })?),
    })
}

fn sql_runner(kind: &str, sql: &config::Sql, config: &Config) -> Result<Runner, String> {
    let statement = SqlStatement {
        text: sql.statement.clone(),
        role: sql.role.clone(),
        result_bytes_max: config.limits.result_bytes_max,
    };
    let Some(url) = sql.database_url() else {
        return Ok(Runner::Sql(Arc::new(statement)));
    };
    let url = ServerUrl::parse(url.expose_secret()).map_err(|fault| format!("database_url: {fault}"))?;
    let database = OtherDatabase::new(&url, sql.connections, config.database.connect_timeout())
        .map_err(|fault| format!("database_url: {}", error_chain(&fault)))?;
    let handler = SqlElsewhere::new(kind, database, statement, sql.connections);
    Ok(Runner::Handler(Arc::new(handler)))
}

fn command(program: &config::Command, result_bytes_max: usize) -> CommandSettings {
    CommandSettings {
        command: program.command.clone(),
        env: exposed(&program.env),
        inherit_env: program.inherit_env.clone(),
        inherited: config::environment(),
        dir: program.dir.as_ref().map(PathBuf::from),
        limits: limits(program),
        limiter: config::program_in_memory().ok(),
        result_bytes_max,
    }
}

fn http_settings(http: &config::Http, result_bytes_max: usize) -> HttpSettings {
    let credentials = &http.credentials;
    let bearer = credentials.token.clone().map(HttpAuth::Bearer);
    let basic = credentials.basic_user.clone().zip(credentials.password.clone());
    HttpSettings {
        url: http.url.clone(),
        method: http.method.clone(),
        secrets: credentials.secrets.clone(),
        headers: exposed(&http.headers),
        auth: bearer.or(basic.map(|(user, password)| HttpAuth::Basic { user, password })),
        allow_hosts: http.allow_hosts.clone(),
        allow_networks: http.allow_networks.clone(),
        tls: HttpTls {
            ca: credentials.ca.as_ref().map(|pem| pem.as_bytes().to_vec()),
            client: credentials.client.as_ref().map(|(chain, key)| (chain.as_bytes().to_vec(), key.clone())),
        },
        connect_timeout: http.connect_timeout,
        host_concurrency: http.host_concurrency,
        result_bytes_max,
    }
}

fn limits(command: &config::Command) -> Limits {
    Limits {
        memory_bytes_max: command.memory_bytes_max,
        cpu_seconds_max: command.cpu_seconds_max,
        open_files_max: command.open_files_max,
        processes_max: command.processes_max,
        nice: command.nice,
        uid: command.uid,
        gid: command.gid,
    }
}

fn exposed(table: &std::collections::BTreeMap<String, SecretString>) -> Vec<(String, String)> {
    table.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect()
}
