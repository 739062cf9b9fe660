//! The values whose positions are asked for, as a tree that a reader fills in on its way through the text.

use std::collections::BTreeMap;

use crate::Place;

/// One value on the way to a wanted one.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Where the value begins.
    pub(super) value: Option<Place>,
    /// Where its key begins, if it has one.
    pub(super) key: Option<Place>,
    children: BTreeMap<String, Wanted>,
}

impl Wanted {
    pub(super) fn add(&mut self, segments: impl Iterator<Item = String>) {
        let mut at = self;
        for segment in segments {
            at = at.children.entry(segment).or_default();
        }
    }

    /// Nothing below this value is wanted.
    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn child(&mut self, segment: &str) -> Option<&mut Wanted> {
        self.children.get_mut(segment)
    }

    /// Value and key position of what the segments lead to; where they lead nowhere, those of the last value on the way.
    pub(super) fn found(&self, segments: impl Iterator<Item = String>) -> (Option<Place>, Option<Place>) {
        let mut at = self;
        for segment in segments {
            match at.children.get(&segment) {
                Some(child) if child.value.is_some() => at = child,
                _ => return (at.value, None),
            }
        }
        (at.value, at.key)
    }
}
