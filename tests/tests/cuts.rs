//! Links that are cut, slow, deaf or mute, servers that are full, clocks that jump: nothing is lost, nothing is accepted twice,
//! no run overlaps another without need, and everything goes on by itself afterwards.

#[path = "cuts/answers.rs"]
mod answers;
#[path = "cuts/calls.rs"]
mod calls;
#[path = "cuts/clocks.rs"]
mod clocks;
#[path = "cuts/copies.rs"]
mod copies;
#[path = "cuts/full.rs"]
mod full;
#[path = "cuts/late.rs"]
mod late;
#[path = "cuts/links.rs"]
mod links;
#[path = "cuts/refused.rs"]
mod refused;
#[path = "cuts/slow.rs"]
mod slow;
