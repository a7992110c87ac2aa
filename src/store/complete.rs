//! Ends the transaction of a handler: the finish of its job and the commit, sent together, and both happen or neither.

use std::future::Future;
use std::pin::{Pin, pin};

use deadpool_postgres::ClientWrapper;
use futures_util::future::{MaybeDone, maybe_done};
use futures_util::{join, poll};

use super::session::{Params, Sends, Way};
use super::sql::Statement;
use super::time::JsonText;
use super::{SqlRun, Store, error};
use crate::Job;

/// One row by its id: no statistics make another plan better, so that it need not be made for each job.
const KEPT_PLAN: &str = "set local plan_cache_mode = force_generic_plan";

impl Store {
    /// The statement that ends a job whose finish is kept, or one of which nothing is.
    fn completion(&self, keep: bool) -> &Statement {
        if keep { &self.statements.job_complete } else { &self.statements.job_complete_unkept }
    }

    /// Has the server read the completion, which is sent to it once for each connection. Before the transaction, in
    /// which a role of the handler's may have no right to.
    pub(super) async fn prepare_completion(
        &self,
        client: &ClientWrapper,
        keep: bool,
    ) -> Result<(), tokio_postgres::Error> {
        if self.shared.prepare {
            let statement = self.completion(keep);
            client.prepare_typed_cached(&statement.text, &statement.params).await?;
        }
        Ok(())
    }

    /// Ends the job and commits, after `settings` (statements, each with its `;`), in one round trip.
    ///
    /// The commit is on its way before the job is known to be held; when it is not, its end fails in the server, and
    /// what is called commit there rolls back.
    pub(super) async fn complete(
        &self,
        client: &ClientWrapper,
        settings: &str,
        job: &Job,
        result: Option<&str>,
        keep: bool,
    ) -> SqlRun {
        let result = result.map(JsonText);
        let (unkept, kept): (Params<'_>, Params<'_>) =
            (&[&job.id, &job.claim_id], &[&job.id, &job.claim_id, &result]);
        let params = if keep { kept } else { unkept };
        let settings = format!("{settings}{KEPT_PLAN}");
        let all = call!("commit", self.send_all(client, &settings, (self.completion(keep), params)));
        let (set, ended, committed) = match all {
            Ok(answers) => answers,
            // Whatever is open is closed with the connection.
            Err(source) => return SqlRun::Uncertain(error::describe(&source)),
        };
        if let Err(source) = set {
            return SqlRun::ahead_of_commit(&source);
        }
        if let Err(source) = ended {
            let run = SqlRun::ahead_of_commit(&source);
            return match run {
                SqlRun::Failed(_) if !self.holds(client, job).await => SqlRun::ClaimLost,
                run => run,
            };
        }
        match committed {
            Ok(()) => SqlRun::Committed,
            Err(source) => SqlRun::at_commit(&source),
        }
    }

    /// All three answers. An error: not all was sent, and the commit was not.
    async fn send_all(
        &self,
        client: &ClientWrapper,
        settings: &str,
        (completion, params): (&Statement, Params<'_>),
    ) -> Result<(Answer, Answer, Answer), tokio_postgres::Error> {
        // Known as a rule, and never asked for in between: what is sent by the first poll is sent in order, and the commit
        // must not overtake the rest.
        let prepared = if self.shared.prepare {
            Some(client.prepare_typed_cached(&completion.text, &completion.params).await?)
        } else {
            None
        };
        let mut set = pin!(maybe_done(client.batch_execute(settings)));
        send_off(set.as_mut()).await?;
        let ended = async {
            match &prepared {
                Some(prepared) => client.query(prepared, params).await.map(drop),
                None => client.send(completion, params, Way::Unnamed).await.map(drop),
            }
        };
        let mut ended = pin!(maybe_done(ended));
        send_off(ended.as_mut()).await?;
        let ((), (), committed) = join!(set.as_mut(), ended.as_mut(), client.batch_execute("commit"));
        let answers = set.take_output().zip(ended.take_output());
        let (set, ended) = answers.expect("both are awaited");
        Ok((set, ended, committed))
    }

    /// Whether the claim still holds the job, asked over a connection on which nothing is open. When it is not known,
    /// it may.
    async fn holds(&self, client: &ClientWrapper, job: &Job) -> bool {
        let way = Way::Transaction(&self.local_settings);
        let params: Params<'_> = &[&job.id, &job.claim_id];
        let limit = self.shared.answer_limit;
        let held = tokio::time::timeout(limit, client.send(&self.statements.job_held, params, way)).await;
        !matches!(held, Ok(Ok(rows)) if rows.is_empty())
    }
}

type Answer = Result<(), tokio_postgres::Error>;

/// Sends a call, without waiting for its answer. An error says that it is not sent: what is to follow it must not be.
///
/// The driver writes a message into its queue when its future is first polled.
pub(super) async fn send_off<F>(mut call: Pin<&mut MaybeDone<F>>) -> Result<(), tokio_postgres::Error>
where
    F: Future<Output = Answer>,
{
    let _ = poll!(call.as_mut());
    match call.as_mut().output_mut() {
        Some(Err(_)) => call.take_output().expect("there is one"),
        _ => Ok(()),
    }
}
