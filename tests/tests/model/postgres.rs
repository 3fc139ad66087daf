//! The guarded statements, each one atomic. Also where the invariants are watched that compare a row with what it was.

use super::{
    invariants::Broken,
    rules::{Protocol, Variant},
    state::{Hint, Hold, Parcel, Phase, Postgres, Row, RowState, State},
};

impl Postgres {
    pub(crate) fn parcel(&self, hint: Hint) -> Option<Parcel> {
        self.parcels
            .iter()
            .find(|(listed, _)| *listed == hint)
            .map(|(_, parcel)| *parcel)
    }

    pub(crate) fn put_parcel(&mut self, hint: Hint, parcel: Parcel) {
        self.drop_parcel(hint);
        self.parcels.push((hint, parcel));
        self.parcels.sort_unstable();
    }

    pub(crate) fn drop_parcel(&mut self, hint: Hint) {
        self.parcels.retain(|(listed, _)| *listed != hint);
    }

    /// Changes a parcel that is still there.
    pub(crate) fn mark_parcel(&mut self, hint: Hint, parcel: Parcel) {
        if self.parcel(hint).is_some() {
            self.put_parcel(hint, parcel);
        }
    }
}

impl State {
    pub(crate) fn breaks(&mut self, broken: Broken) {
        self.broken |= 1 << broken as u16;
    }

    fn write(&mut self, job: u8, row: Row) {
        if let Some(before) = self.row(job) {
            if before.is_final() && before != row {
                self.breaks(Broken::FinalChanged);
            }
            if row.epoch < before.epoch {
                self.breaks(Broken::EpochFell);
            }
        }
        if row.is_final() {
            // Nobody can claim it any more: forget what only matters to claims.
            self.ghosts[job as usize].claimed = 0;
        }
        self.postgres.rows[job as usize] = Some(row);
    }

    /// `persist`: job and parcel in one transaction; a repeated id writes nothing. Returns whether it wrote.
    pub(crate) fn persist(&mut self, job: u8, parcel: Parcel) -> bool {
        if self.row(job).is_some() {
            return false;
        }
        self.write(
            job,
            Row {
                state: RowState::Available,
                epoch: 0,
                crashes: 0,
                started: false,
            },
        );
        self.postgres.put_parcel(Hint { job, epoch: 0 }, parcel);
        true
    }

    /// `rehand`, and `bury` for what has crashed too many workers. Whoever calls it knows whether this crash counts.
    pub(crate) fn rehand(&mut self, protocol: &Protocol, hint: Hint, counts: bool) {
        let Some(row) = self.row(hint.job) else {
            return;
        };
        if row.epoch != hint.epoch || row.is_final() {
            return;
        }
        let crashes = row.crashes + u8::from(counts);
        let epoch = row.epoch + 1;
        if crashes >= protocol.crashes_max {
            return self.write(
                hint.job,
                Row {
                    state: RowState::Dead,
                    epoch,
                    crashes,
                    started: false,
                },
            );
        }
        self.write(
            hint.job,
            Row {
                state: RowState::Available,
                epoch,
                crashes,
                started: false,
            },
        );
        self.postgres.put_parcel(
            Hint {
                job: hint.job,
                epoch,
            },
            Parcel::Waiting,
        );
    }

    /// The same for whoever only has the word of an entry, of a listing or of an earlier look.
    pub(crate) fn rehand_lost(&mut self, protocol: &Protocol, hint: Hint) {
        let leased = self.row(hint.job).is_some_and(|row| {
            row.epoch == hint.epoch && matches!(row.state, RowState::Running(_))
        });
        if leased && protocol.mends.rehand_spares_leased {
            return;
        }
        self.ghosts[hint.job as usize].seized |= leased;
        self.rehand(protocol, hint, false);
    }

    /// The lease statement: `running`, guarded by id, epoch and state. Granted also when it is repeated.
    pub(crate) fn lease(&mut self, job: u8, epoch: u8, running: RowState) -> bool {
        let Some(row) = self.row(job) else {
            return false;
        };
        if row.is_available(epoch) {
            self.write(
                job,
                Row {
                    state: running,
                    ..row
                },
            );
            return true;
        }
        row.epoch == epoch && row.state == running
    }

    /// The direct claim: the same guard, and a new epoch at once.
    pub(crate) fn lease_anew(&mut self, hint: Hint, running: RowState) -> bool {
        let Some(row) = self
            .row(hint.job)
            .filter(|row| row.is_available(hint.epoch))
        else {
            return false;
        };
        self.write(
            hint.job,
            Row {
                state: running,
                epoch: row.epoch + 1,
                ..row
            },
        );
        true
    }

    /// The lease says that the job starts in a child.
    pub(crate) fn mark_started(&mut self, job: u8) {
        if let Some(row) = self.row(job) {
            self.write(
                job,
                Row {
                    started: true,
                    ..row
                },
            );
        }
    }

    /// The settle statement of a success, guarded by id, epoch and the state that the hold must have left in the row.
    pub(crate) fn settle(&mut self, variant: Variant, job: u8, hold: Hold) -> bool {
        let Some(row) = self.row(job) else {
            return false;
        };
        let state = match hold.phase {
            Phase::Fresh => row.state == RowState::Available,
            Phase::Leased => matches!(row.state, RowState::Running(_)),
        };
        let accepted = (state && (row.epoch == hold.epoch || variant.settle_without_epoch))
            || variant.settle_without_guard;
        if accepted {
            self.write(
                job,
                Row {
                    state: RowState::Completed,
                    started: false,
                    ..row
                },
            );
            self.ghosts[job as usize].accepted += 1;
            if self.ghosts[job as usize].accepted > 1 {
                self.breaks(Broken::TwoOutcomes);
            }
            if hold.epoch != row.epoch {
                self.breaks(Broken::StaleAccepted);
            }
        }
        accepted
    }
}
