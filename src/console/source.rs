//! Where the console reads calls: the journal of this recorder, or the index of all sites.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use super::server::StateError;
use crate::call::record::CallRecord;
use crate::central::calls::OtherSiteCall;
use crate::central::config::Config as ArchiveConfig;
use crate::central::{ArchiveError, ArchiveIndex, ObjectArchive};
use crate::delivery::row::JobRow;
use crate::journal::{CallScope, CallSearch, FoundCalls, HeardClass, Journal, StoredCall};
use crate::time::Timestamp;

/// The installation whose pages are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConsolePlace {
    /// One recorder: its journal, its live calls, its health.
    #[default]
    Recorder,
    /// The centre: the calls of all sites, without live calls and without changes at a site.
    Centre,
}

/// A result of a source.
pub(super) type SourceResult<T> = Result<T, StateError>;

/// A place to read calls from. Every query of calls is limited to the scope of an account.
pub(super) trait CallSource {
    /// Returns a page of the calls that a search finds, newest first, older than `before`.
    fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> SourceResult<FoundCalls>;

    /// Returns the oldest calls that a search finds, oldest first. Without an order of its own, a source reads at most
    /// [`MAX_AFTER`] calls to find them.
    fn first_calls(&self, search: &CallSearch, limit: u32) -> SourceResult<Vec<StoredCall>> {
        let mut calls = self.search(search, None, MAX_AFTER)?.calls;
        calls.reverse();
        calls.truncate(limit as usize);
        Ok(calls)
    }

    /// Returns the number of calls that a search finds, for each class.
    fn count_by_class(&self, search: &CallSearch) -> SourceResult<Vec<(HeardClass, u64)>>;

    /// Returns a call by its id if it is within a scope.
    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>>;

    /// Returns the delivery of a call, if this machine delivers it.
    fn job(&self, id: &str) -> SourceResult<Option<JobRow>>;

    /// Returns when and why the files of a call were removed.
    fn removed(&self, id: &str) -> SourceResult<Option<(Timestamp, String)>>;

    /// Returns the same call as other sites heard it, within a scope.
    fn at_other_sites(&self, record: &CallRecord, scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>>;
}

impl CallSource for Journal {
    fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> SourceResult<FoundCalls> {
        Ok(Self::search(self, search, before, limit)?)
    }

    fn first_calls(&self, search: &CallSearch, limit: u32) -> SourceResult<Vec<StoredCall>> {
        Ok(Self::first_calls(self, search, limit)?)
    }

    fn count_by_class(&self, search: &CallSearch) -> SourceResult<Vec<(HeardClass, u64)>> {
        Ok(Self::count_by_class(self, search)?)
    }

    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>> {
        Ok(Self::call_in_scope(self, id, scope)?)
    }

    fn job(&self, id: &str) -> SourceResult<Option<JobRow>> {
        Ok(Self::job(self, id)?)
    }

    fn removed(&self, id: &str) -> SourceResult<Option<(Timestamp, String)>> {
        Ok(Self::removed(self, id)?)
    }

    fn at_other_sites(&self, _record: &CallRecord, _scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>> {
        Ok(Vec::new())
    }
}

/// The archive of all sites: connections to its index, and its object store.
#[derive(Debug)]
pub(super) struct CentralArchive {
    config: ArchiveConfig,
    /// Recordings of all sites.
    pub(super) objects: ObjectArchive,
    /// Connections that no request uses.
    idle: Mutex<Vec<ArchiveIndex>>,
}

impl CentralArchive {
    /// Opens the archive. Does not connect yet.
    ///
    /// # Errors
    /// When a setting is wrong, or a file with a secret cannot be read.
    pub(super) fn open(config: &ArchiveConfig) -> Result<Self, ArchiveError> {
        ArchiveIndex::open(config)?;
        Ok(Self { config: config.clone(), objects: ObjectArchive::open(config)?, idle: Mutex::default() })
    }

    /// Runs a query on a connection. Must be called on a thread for blocking work.
    pub(super) fn read<T>(
        &self,
        runtime: &Handle,
        query: impl FnOnce(&CentralReader) -> SourceResult<T>,
    ) -> SourceResult<T> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let index = kept.map_or_else(|| ArchiveIndex::open(&self.config), Ok)?;
        let reader = CentralReader { index: RefCell::new(index), runtime: runtime.clone() };
        let result = query(&reader)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_CONNECTIONS {
            idle.push(reader.index.into_inner());
        }
        Ok(result)
    }
}

/// One connection to the index, for one request.
pub(super) struct CentralReader {
    index: RefCell<ArchiveIndex>,
    runtime: Handle,
}

impl CentralReader {
    /// Waits for an answer of the index.
    pub(super) fn ask<T>(
        &self,
        query: impl AsyncFnOnce(&mut ArchiveIndex) -> Result<T, ArchiveError>,
    ) -> SourceResult<T> {
        let mut index = self.index.borrow_mut();
        Ok(self.runtime.block_on(query(&mut index))?)
    }
}

impl CallSource for CentralReader {
    fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> SourceResult<FoundCalls> {
        self.ask(async |index| index.search(search, before, limit).await)
    }

    fn count_by_class(&self, search: &CallSearch) -> SourceResult<Vec<(HeardClass, u64)>> {
        self.ask(async |index| index.count_by_class(search).await)
    }

    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>> {
        self.ask(async |index| index.call_in_scope(id, scope).await)
    }

    fn job(&self, _id: &str) -> SourceResult<Option<JobRow>> {
        Ok(None) // the site delivers
    }

    fn removed(&self, _id: &str) -> SourceResult<Option<(Timestamp, String)>> {
        Ok(None) // what the site removed is in the archive
    }

    fn at_other_sites(&self, record: &CallRecord, scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>> {
        self.ask(async |index| index.at_other_sites(&record.appliance, &record.id, scope).await)
    }
}

/// Maximum number of calls that are read to find the oldest ones, by a source that lists the newest first only.
const MAX_AFTER: u32 = 500;
/// Maximum number of connections to the index that are kept open.
const MAX_CONNECTIONS: usize = 4;
