//! The forms: each one is the form the engine uses with something else in one place.

/// How a claim takes its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Update the rows at an array of places.
    UpdateByPlace,
    /// Update the rows of an array of ids.
    UpdateById,
    /// Update the rows of a CTE that is joined to the table.
    UpdateByJoin,
    /// Lock the rows in a transaction that stays open until they are deleted.
    Hold,
    /// Delete the rows and insert each into a table of jobs in flight.
    MoveEach,
    /// Delete the rows and insert the batch into that table as one row with an array.
    MoveBatch,
    /// Write down the ids of the batch and move a shared frontier behind them; the rows stay as they are.
    NoteOnly,
}

/// Where a claim starts to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// At the head of the queue.
    None,
    /// Behind the last row that any session of the process took.
    Shared,
    /// Behind the last row that this session took, as if each were a process of its own.
    Own,
}

/// The indexes of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexes {
    /// The primary key and the ready index without a predicate on the state.
    KeyAndReady,
    /// The ready index has the predicate `state = 'available'`, which a claim changes.
    KeyAndPartial,
    /// No primary key; only places can find a claimed row.
    ReadyOnly,
    /// One more, which no claim changes.
    Three,
}

/// How a finish finds the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// By their ids.
    ById,
    /// By the places that the claim answered; an id must match, since a row may have moved.
    ByPlace,
    /// By their ids, each into a table of finished jobs.
    Keep,
}

/// One way to store, claim and finish jobs.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own; no two exclude each other")]
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) fillfactor: u8,
    pub(super) indexes: Indexes,
    pub(super) claim: Claim,
    pub(super) finish: Finish,
    /// Whether the batch is recorded in a table of claims, as rescue needs it.
    pub(super) recorded: bool,
    /// Whether the claim's commit waits for the disk.
    pub(super) durable_claim: bool,
    pub(super) cursor: Cursor,
    pub(super) batch: i64,
    pub(super) sessions: usize,
    /// Whether one plan is kept for all executions.
    pub(super) generic_plan: bool,
    /// Whether a snapshot from before is held, and as many jobs were drained under it already.
    pub(super) pinned: bool,
    /// Size of the payload, which does not compress; `None` takes the bench's.
    pub(super) payload_bytes: Option<usize>,
}

/// What the engine does.
pub(super) const ENGINE: Form = Form {
    name: "engine",
    fillfactor: 45,
    indexes: Indexes::KeyAndReady,
    claim: Claim::UpdateByPlace,
    finish: Finish::ById,
    recorded: true,
    durable_claim: true,
    cursor: Cursor::Shared,
    batch: 1_000,
    sessions: 2,
    generic_plan: false,
    pinned: false,
    payload_bytes: None,
};

/// All forms, the reference first.
pub(super) const FORMS: &[Form] = &[
    ENGINE,
    Form { name: "no record of claims", recorded: false, ..ENGINE },
    Form { name: "fillfactor 70", fillfactor: 70, ..ENGINE },
    Form { name: "fillfactor 100", fillfactor: 100, ..ENGINE },
    Form { name: "state in the index predicate, fillfactor 45", indexes: Indexes::KeyAndPartial, ..ENGINE },
    Form {
        name: "state in the index predicate, fillfactor 100",
        indexes: Indexes::KeyAndPartial,
        fillfactor: 100,
        ..ENGINE
    },
    Form { name: "no cursor", cursor: Cursor::None, ..ENGINE },
    Form { name: "a cursor for each session", cursor: Cursor::Own, ..ENGINE },
    Form { name: "third index", indexes: Indexes::Three, ..ENGINE },
    Form { name: "finish by place", finish: Finish::ByPlace, ..ENGINE },
    Form {
        name: "finish by place, no primary key",
        finish: Finish::ByPlace,
        indexes: Indexes::ReadyOnly,
        ..ENGINE
    },
    Form { name: "finished jobs kept", finish: Finish::Keep, ..ENGINE },
    Form { name: "claim by id", claim: Claim::UpdateById, ..ENGINE },
    Form { name: "claim by join", claim: Claim::UpdateByJoin, ..ENGINE },
    Form { name: "claim does not wait for the disk", durable_claim: false, ..ENGINE },
    Form { name: "lock and hold", claim: Claim::Hold, recorded: false, ..ENGINE },
    Form {
        name: "lock and hold, fillfactor 100",
        claim: Claim::Hold,
        recorded: false,
        fillfactor: 100,
        ..ENGINE
    },
    Form { name: "moved to a row each", claim: Claim::MoveEach, recorded: false, fillfactor: 100, ..ENGINE },
    Form {
        name: "moved to a row a batch",
        claim: Claim::MoveBatch,
        recorded: false,
        fillfactor: 100,
        ..ENGINE
    },
    Form { name: "noted only", claim: Claim::NoteOnly, recorded: false, fillfactor: 100, ..ENGINE },
    Form { name: "generic plan", generic_plan: true, ..ENGINE },
    Form { name: "1 session", sessions: 1, ..ENGINE },
    Form { name: "4 sessions", sessions: 4, ..ENGINE },
    Form { name: "32 sessions", sessions: 32, ..ENGINE },
    Form { name: "32 sessions, a cursor for each", sessions: 32, cursor: Cursor::Own, ..ENGINE },
    Form {
        name: "32 sessions, noted only",
        sessions: 32,
        claim: Claim::NoteOnly,
        recorded: false,
        fillfactor: 100,
        ..ENGINE
    },
    Form { name: "batches of 200", batch: 200, ..ENGINE },
    Form { name: "snapshot held", pinned: true, ..ENGINE },
    Form { name: "snapshot held, no cursor", pinned: true, cursor: Cursor::None, ..ENGINE },
    Form {
        name: "snapshot held, state in the predicate, fillfactor 100",
        pinned: true,
        indexes: Indexes::KeyAndPartial,
        fillfactor: 100,
        ..ENGINE
    },
    Form { name: "1 KB", payload_bytes: Some(1_024), ..ENGINE },
    Form { name: "1 KB, fillfactor 100", payload_bytes: Some(1_024), fillfactor: 100, ..ENGINE },
    Form {
        name: "1 KB, lock and hold, fillfactor 100",
        payload_bytes: Some(1_024),
        claim: Claim::Hold,
        recorded: false,
        fillfactor: 100,
        ..ENGINE
    },
    Form {
        name: "1 KB, noted only",
        payload_bytes: Some(1_024),
        claim: Claim::NoteOnly,
        recorded: false,
        fillfactor: 100,
        ..ENGINE
    },
    Form { name: "10 KB", payload_bytes: Some(10_240), ..ENGINE },
    Form { name: "10 KB, fillfactor 100", payload_bytes: Some(10_240), fillfactor: 100, ..ENGINE },
];
