//! The source from which the console reads calls: the journal (database) of this recorder, or the database of the
//! central archive.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use super::server::StateError;
use crate::call::record::CallRecord;
use crate::central::calls::OtherSiteCall;
use crate::central::config::Config as ArchiveConfig;
use crate::central::{ArchiveError, ArchiveIndex, ObjectArchive};
use crate::delivery::row::JobRow;
use crate::journal::{CallScope, CallSearch, ClassCounts, FoundCalls, Journal, StoredCall};
use crate::time::Timestamp;

/// Whether the console shows one recorder or a central archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConsolePlace {
    /// One recorder, with its journal, its live calls and its health.
    #[default]
    Recorder,
    /// A central archive with the calls of all sites. It has no live calls, and its calls cannot be changed.
    Centre,
}

/// Result of a query of calls from the journal or the central archive.
pub(super) type SourceResult<T> = Result<T, StateError>;

/// A source of calls. Every query of calls is limited to the scope of an account.
pub(super) trait CallSource {
    /// Returns a page of the calls that a search finds, newest first. With `before` (start and id of a call), returns
    /// only older calls.
    fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> SourceResult<FoundCalls>;

    /// Returns the `limit` oldest calls that a search finds, oldest first. This default implementation searches only
    /// the newest [`MAX_AFTER`] matching calls.
    fn first_calls(&self, search: &CallSearch, limit: u32) -> SourceResult<Vec<StoredCall>> {
        let mut calls = self.search(search, None, MAX_AFTER)?.calls;
        calls.reverse();
        calls.truncate(limit as usize);
        Ok(calls)
    }

    /// Returns the number of calls that a search finds, for each class (how much can be heard). A large archive counts
    /// only the newest calls.
    fn count_by_class(&self, search: &CallSearch) -> SourceResult<ClassCounts>;

    /// Returns the call with this id; `None` if it does not exist or is outside the scope (set of calls that an account
    /// may see).
    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>>;

    /// Returns the delivery of a call; `None` if this machine does not deliver the call.
    fn job(&self, id: &str) -> SourceResult<Option<JobRow>>;

    /// Returns the reason why no call can be delivered at present; `None` if calls can be delivered.
    fn delivery_alarm(&self) -> SourceResult<Option<String>>;

    /// Returns the time and reason of the removal of a call's recordings; `None` if the recordings were not removed.
    fn removed(&self, id: &str) -> SourceResult<Option<(Timestamp, String)>>;

    /// Returns the records of other sites about the same call, if they are within a scope (set of calls that an account
    /// may see).
    fn at_other_sites(&self, record: &CallRecord, scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>>;
}

impl CallSource for Journal {
    fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> SourceResult<FoundCalls> {
        Ok(Self::search(self, search, before, limit)?)
    }

    fn first_calls(&self, search: &CallSearch, limit: u32) -> SourceResult<Vec<StoredCall>> {
        Ok(Self::first_calls(self, search, limit)?)
    }

    fn count_by_class(&self, search: &CallSearch) -> SourceResult<ClassCounts> {
        Ok(ClassCounts { by_class: Self::count_by_class(self, search)?, is_least: false })
    }

    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>> {
        Ok(Self::call_in_scope(self, id, scope)?)
    }

    fn job(&self, id: &str) -> SourceResult<Option<JobRow>> {
        Ok(Self::job(self, id)?)
    }

    fn delivery_alarm(&self) -> SourceResult<Option<String>> {
        Ok(self.alarm()?)
    }

    fn removed(&self, id: &str) -> SourceResult<Option<(Timestamp, String)>> {
        Ok(Self::removed(self, id)?)
    }

    fn at_other_sites(&self, _record: &CallRecord, _scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>> {
        Ok(Vec::new())
    }
}

/// Whether an account sees why deliveries failed. Only administrators see it, because the reasons name settings and
/// hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryReasons {
    Shown,
    Hidden,
}

/// A source of calls as an account may see it. Only administrators see the reasons of failed deliveries.
pub(super) struct AccountSource<'a> {
    source: &'a dyn CallSource,
    reasons: DeliveryReasons,
}

impl<'a> AccountSource<'a> {
    /// Creates the view that an account has of `source`. `reasons` decides whether the records contain the reasons of
    /// failed deliveries.
    pub(super) fn new(source: &'a dyn CallSource, reasons: DeliveryReasons) -> Self {
        Self { source, reasons }
    }

    /// Removes from a record the reasons of a failed delivery, if the account may not see them.
    fn reduce(&self, record: &mut CallRecord) {
        if self.reasons == DeliveryReasons::Hidden {
            record.delivery.detail = None;
        }
    }
}

impl CallSource for AccountSource<'_> {
    fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> SourceResult<FoundCalls> {
        let mut found = self.source.search(search, before, limit)?;
        found.calls.iter_mut().for_each(|call| self.reduce(&mut call.record));
        Ok(found)
    }

    fn first_calls(&self, search: &CallSearch, limit: u32) -> SourceResult<Vec<StoredCall>> {
        let mut calls = self.source.first_calls(search, limit)?;
        calls.iter_mut().for_each(|call| self.reduce(&mut call.record));
        Ok(calls)
    }

    fn count_by_class(&self, search: &CallSearch) -> SourceResult<ClassCounts> {
        self.source.count_by_class(search)
    }

    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>> {
        let mut call = self.source.call_in_scope(id, scope)?;
        call.iter_mut().for_each(|call| self.reduce(&mut call.record));
        Ok(call)
    }

    fn job(&self, id: &str) -> SourceResult<Option<JobRow>> {
        self.source.job(id)
    }

    fn delivery_alarm(&self) -> SourceResult<Option<String>> {
        if self.reasons == DeliveryReasons::Hidden { Ok(None) } else { self.source.delivery_alarm() }
    }

    fn removed(&self, id: &str) -> SourceResult<Option<(Timestamp, String)>> {
        self.source.removed(id)
    }

    fn at_other_sites(&self, record: &CallRecord, scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>> {
        let mut calls = self.source.at_other_sites(record, scope)?;
        calls.iter_mut().for_each(|call| self.reduce(&mut call.record));
        Ok(calls)
    }
}

/// The central archive: open connections to its database, and its object store.
#[derive(Debug)]
pub(super) struct CentralArchive {
    config: ArchiveConfig,
    /// The object store with the recordings of all sites.
    pub(super) objects: ObjectArchive,
    /// Open connections to the database that no request is using.
    idle: Mutex<Vec<ArchiveIndex>>,
}

impl CentralArchive {
    /// Opens the archive. Does not connect yet.
    ///
    /// # Errors
    /// Fails if a setting is wrong, or a file with a secret cannot be read.
    pub(super) fn open(config: &ArchiveConfig) -> Result<Self, ArchiveError> {
        ArchiveIndex::open(config)?;
        Ok(Self { config: config.clone(), objects: ObjectArchive::open(config)?, idle: Mutex::default() })
    }

    /// Runs a query on a connection to the archive's database. Must be called on a thread for blocking work.
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

/// One connection to the archive's database, used for one request.
pub(super) struct CentralReader {
    index: RefCell<ArchiveIndex>,
    runtime: Handle,
}

impl CentralReader {
    /// Runs a query of the archive's database and waits for its result.
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

    fn count_by_class(&self, search: &CallSearch) -> SourceResult<ClassCounts> {
        self.ask(async |index| index.count_by_class(search).await)
    }

    fn call_in_scope(&self, id: &str, scope: &CallScope) -> SourceResult<Option<StoredCall>> {
        self.ask(async |index| index.call_in_scope(id, scope).await)
    }

    fn job(&self, _id: &str) -> SourceResult<Option<JobRow>> {
        Ok(None) // the site delivers its calls, not this machine
    }

    fn delivery_alarm(&self) -> SourceResult<Option<String>> {
        Ok(None)
    }

    fn removed(&self, _id: &str) -> SourceResult<Option<(Timestamp, String)>> {
        Ok(None) // the archive keeps recordings that a site removed
    }

    fn at_other_sites(&self, record: &CallRecord, scope: &CallScope) -> SourceResult<Vec<OtherSiteCall>> {
        self.ask(async |index| index.at_other_sites(&record.appliance, &record.id, scope).await)
    }
}

/// Maximum number of calls, newest first, among which [`CallSource::first_calls`] looks for the oldest calls.
const MAX_AFTER: u32 = 500;
/// Maximum number of idle connections to the archive's database that are kept open for later queries. Further
/// connections are closed after their query.
const MAX_CONNECTIONS: usize = 4;
