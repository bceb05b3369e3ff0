//! One list of patterns, found by host: those for exactly it first, then the wide ones, nearest first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::host::Host;
use crate::pattern::{Hosts, Pattern};

/// Patterns with what belongs to each.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    exact: HashMap<Host, Vec<Row<T>>>,
    below: HashMap<Box<str>, Vec<Row<T>>>,
}

#[derive(Debug, Clone)]
struct Row<T> {
    pattern: Arc<Pattern>,
    value: T,
}

/// What a list of allowances says.
#[derive(Debug)]
pub(crate) enum Found<'a, T> {
    /// The host is allowed at this port.
    Here(&'a T),
    /// The host is allowed, at other ports only.
    OtherPort(&'a T),
    /// The host is not on the list.
    Nowhere,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// Adds a pattern; among those for the same hosts the first counts.
    pub(crate) fn add(&mut self, pattern: Arc<Pattern>, value: T) {
        let rows = match pattern.hosts() {
            Hosts::Exactly(host) => self.exact.entry(host.clone()).or_default(),
            Hosts::Below(name) => self.below.entry(name.as_str().into()).or_default(),
        };
        rows.push(Row { pattern, value });
    }

    /// The nearest pattern that allows host and port.
    pub(crate) fn allows(&self, host: &Host, port: u16) -> Found<'_, T> {
        let mut elsewhere = Found::Nowhere;
        for row in self.about(host) {
            if row.pattern.has_port(port) {
                return Found::Here(&row.value);
            }
            if matches!(elsewhere, Found::Nowhere) {
                elsewhere = Found::OtherPort(&row.value);
            }
        }
        elsewhere
    }

    /// The nearest pattern that denies host and port; without a port it denies all of them.
    pub(crate) fn denies(&self, host: &Host, port: u16) -> Option<&T> {
        self.about(host).find(|row| row.pattern.denies_port(port)).map(|row| &row.value)
    }

    fn about(&self, host: &Host) -> impl Iterator<Item = &Row<T>> {
        let parents = host.name().into_iter().flat_map(|name| name.parents());
        let wide = parents.filter_map(|parent| self.below.get(parent));
        self.exact.get(host).into_iter().chain(wide).flatten()
    }
}
