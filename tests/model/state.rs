//! The rows of the database, the processes, and what may happen to them.

use std::collections::{BTreeMap, BTreeSet};

/// The process that faults befall, and the one that is well.
pub(crate) const SUBJECT: usize = 0;
pub(crate) const REST: usize = 1;
/// Worker ids make the space infinite otherwise.
pub(crate) const WORKERS_MAX: u8 = 3;
/// A process that counts so many ticks since its last beat stops its jobs (6 s in the code).
pub(crate) const SELF_STOP: u8 = 1;
/// A worker whose beat has not changed for so many ticks is taken for lost (10 s in the code).
pub(crate) const LOST_AFTER: u8 = 2;

pub(crate) type Job = usize;
pub(crate) type Claim = u8;
pub(crate) type Worker = u8;
pub(crate) type Batch = u8;

/// What the code does, or with one rule broken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    Kept,
    /// An ending asks only whether the job runs, not under which claim.
    FinishById,
    /// A worker is taken for lost because its job is old, not because its beat stands still.
    RescueByAge,
    /// Endings are grouped without a look at what is held now: an old one goes under a newer claim of the group.
    GroupWithoutStrike,
    /// A claim that is answered after the worker stopped itself is begun.
    BeginWhileSilent,
    /// A claim whose answer was lost is not settled.
    ForgetNothing,
    /// A claim whose answer was lost is given back if it is there, and nothing keeps it from arriving later.
    ForgetWithoutBlock,
    /// A process that was started for a job takes it over whoever runs it by then.
    TakeOverById,
}

/// A row of `jobs`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Row {
    Available,
    Running {
        claim: Claim,
        worker: Worker,
    },
    /// In `finished_jobs` or `dead_jobs`.
    Ended,
}

/// Jobs ended or given back under the claims they ran under, as one group of endings carries them.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) worker: Worker,
    pub(crate) endings: Vec<(Job, Claim, bool)>,
    /// Claims of which nothing is left.
    pub(crate) batches: Vec<Batch>,
}

/// A statement whose sender does not wait for it any more: it may still be executed, or never.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Statement {
    Claim {
        worker: Worker,
        batch: Batch,
    },
    Finish(Group),
    Rescue {
        worker: Worker,
    },
    /// By the process that the job was handed to.
    TakeOver {
        job: Job,
        claim: Claim,
    },
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Runs,
    /// Not begun, and handed to a process of its own, which has not said yet that it has it.
    Handed,
    /// It said so: nothing is to be written.
    Gone,
    Completed,
    /// To be given back, or to be tried again.
    Released,
}

/// A claimed job on its way through a process.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) job: Job,
    pub(crate) claim: Claim,
    pub(crate) batch: Batch,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Life {
    Up,
    Frozen,
    Dead,
}

/// A claim that was sent; `answer` once the server has executed it.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) struct Claiming {
    pub(crate) worker: Worker,
    pub(crate) batch: Batch,
    pub(crate) answer: Option<Vec<(Job, Claim)>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) life: Life,
    pub(crate) worker: Worker,
    /// Ticks since a beat went through.
    pub(crate) silence: u8,
    /// It stopped its jobs because no beat went through.
    pub(crate) silent: bool,
    pub(crate) held: BTreeMap<Job, Claim>,
    pub(crate) tickets: BTreeSet<Ticket>,
    /// Jobs left of each claim.
    pub(crate) left: BTreeMap<Batch, u8>,
    pub(crate) writing: Option<Group>,
    pub(crate) claiming: Option<Claiming>,
    pub(crate) lost_claims: BTreeSet<(Worker, Batch)>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) jobs: Vec<Row>,
    /// The crew, and for how many ticks each one's beat has not changed.
    pub(crate) workers: BTreeMap<Worker, u8>,
    pub(crate) claims: BTreeMap<(Worker, Batch), (Claim, Vec<Job>)>,
    pub(crate) next_claim: Claim,
    pub(crate) next_worker: Worker,
    pub(crate) processes: [Process; 2],
    pub(crate) underway: BTreeSet<Statement>,
    /// Jobs taken over, by the claims they were under, of which the other worker has not heard.
    pub(crate) taken: BTreeSet<(Job, Claim)>,
    pub(crate) faults_left: u8,
    /// An ending was written to a job that ran under another claim.
    pub(crate) trespass: bool,
    /// An ending came too late and was refused.
    pub(crate) refused: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Step {
    /// A process sends a claim; the server executes it; the process reads the answer.
    SendClaim,
    ExecuteClaim,
    ReadClaim,
    /// Nobody waits for the claim any more.
    LoseClaim,
    Forget(Worker, Batch),
    HandlerEnds(Ticket),
    /// A job gets a process of its own, which is one of the rest; it says that it has it, or is waited for no more.
    HandOver(Ticket),
    HearTaken(Ticket),
    GiveUpWaiting(Ticket),
    /// The rest of the crew, which is well, does each of these at one go.
    RestClaims,
    RestEnds(Ticket, Stage),
    Gather,
    Write,
    /// The write is sent, nobody hears the answer, and it is sent again.
    LoseWrite,
    Beat,
    Rescue(Worker),
    LoseRescue(Worker),
    /// Claims of workers that are not in the crew are given back.
    Reclaim,
    Leave,
    Arrive(Statement),
    Tick,
    Freeze,
    Thaw,
    Kill,
}

impl Step {
    pub(crate) fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::LoseClaim | Self::LoseWrite | Self::LoseRescue(_) | Self::Leave | Self::Freeze | Self::Kill
        )
    }
}
