//! Views of the engine's state: the facts for correlation, and the call record as of now.

use crate::call::conversation::RecordContext;
use crate::call::correlate::Correlator;
use crate::call::engine::Engine;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::call::record::CallRecord;

impl Engine {
    /// Returns the facts from which correlation decides.
    pub(super) const fn correlator(&self) -> Correlator<'_> {
        Correlator { table: &self.table, plan: &self.site.plan, now: self.clock.now }
    }

    /// Returns the call record of a conversation as of now; `None` if the conversation was removed.
    pub(super) fn record_of(&self, conversation: CallKey) -> Option<CallRecord> {
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let conversation = self.table.call(conversation)?;
        let context =
            RecordContext { config: &self.settings.config, plan: &self.site.plan, source: &self.settings.source };
        Some(conversation.record(&legs, context))
    }
}
