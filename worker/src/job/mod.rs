//! A job in the hands of this process: claimed ([`Claimed`]), held ([`Hold`], [`Held`]), brought by an [`Entry`], and [`Ended`].
//!
//! Only what a job is here and what may happen to it; no statement, no stream. Those who claim, run, lease and settle share it.

mod claimed;
mod counts;
mod ended;
mod entry;
mod held;
mod hold;

pub(crate) use self::{
    claimed::{Claimed, ClaimedJob},
    counts::Counts,
    ended::Ended,
    entry::{Ack, Entry},
    held::{Held, InHand},
    hold::{Hold, RowState},
};
