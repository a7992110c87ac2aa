//! Notes how far running jobs are.

use super::time::JsonText;
use super::{Error, Store};
use crate::{ClaimId, JobId};

/// How far one job is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The job.
    pub id: JobId,
    /// The claim it runs under; a report from an older one is passed over.
    pub claim_id: ClaimId,
    /// What its handler says: JSON text.
    pub json: String,
}

impl Store {
    /// Writes reports into `jobs.progress`; jobs that do not run under these claims any more are left alone.
    pub async fn report_progress(&self, reports: &[Progress]) -> Result<(), Error> {
        let mut ids: Vec<JobId> = reports.iter().map(|report| report.id).collect();
        ids.sort_unstable();
        let by_id = reports
            .iter()
            .map(|r| format!(r#""{}":{{"claim":{},"progress":{}}}"#, r.id, r.claim_id, r.json))
            .collect::<Vec<_>>()
            .join(",");
        let by_id = format!("{{{by_id}}}");
        self.query(&self.statements.job_progress, &[&ids, &JsonText(&by_id)]).await.map(drop)
    }
}
