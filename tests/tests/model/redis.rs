//! The stream: what publishing, reading and acknowledging do to it, and what can be done to it.

use super::state::{Entry, Owner, Place, Redis};

impl Redis {
    /// Can be read: reachable, and the group is there.
    pub(crate) fn is_readable(&self) -> bool {
        !self.down && self.group
    }

    /// publish.lua: the group first, at 0, if there is no stream.
    pub(crate) fn add(&mut self, entry: Entry, place: Place) {
        if self.entries.is_empty() {
            self.group = true;
        }
        if !self.has(entry) {
            self.entries.push((entry, place));
            self.entries.sort_unstable();
        }
    }

    pub(crate) fn has(&self, entry: Entry) -> bool {
        self.entries.iter().any(|(other, _)| *other == entry)
    }

    pub(crate) fn place(&mut self, entry: Entry, place: Place) {
        self.entries
            .iter_mut()
            .filter(|(other, _)| *other == entry)
            .for_each(|(_, at)| *at = place);
        self.entries.sort_unstable();
    }

    /// XACK and XDEL by id, whoever it is pending with. Without effect while Redis is out of reach.
    pub(crate) fn remove(&mut self, entry: Entry) {
        if !self.down {
            self.entries.retain(|(other, _)| *other != entry);
        }
    }

    /// Every entry's place at once.
    pub(crate) fn place_all(&mut self, change: impl Fn(Place) -> Place) {
        self.entries
            .iter_mut()
            .for_each(|(_, place)| *place = change(*place));
        self.entries.sort_unstable();
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = (Entry, Owner)> {
        self.entries
            .iter()
            .filter_map(|(entry, place)| match place {
                Place::Pending(owner) => Some((*entry, *owner)),
                _ => None,
            })
    }

    pub(crate) fn in_place(&self, place: Place) -> impl Iterator<Item = Entry> {
        self.entries
            .iter()
            .filter(move |(_, at)| *at == place)
            .map(|(entry, _)| *entry)
    }
}
