//! Filter rules, from a request to the last word to the store.

use std::sync::Arc;
use std::time::Duration;

use super::core::{ChangedRules, RuleChange};
use super::service::Service;
use crate::api::{ApiError, Name, Rule};

/// Between two looks at what logged rules have told.
const LOOK: Duration = Duration::from_secs(1);

impl Service {
    /// Changes the rules of a network, or of everybody. They hold when this returns, and come back after
    /// a restart.
    pub(super) async fn change_rules(
        &self,
        network: Option<&Name>,
        change: RuleChange,
    ) -> Result<Vec<Rule>, ApiError> {
        // One at a time: what is taken back must be what was there before.
        let _one_at_a_time = self.networks.lock().await;
        let changed = self.core.lock().await.change_rules(network, change)?;
        let ChangedRules {
            changes,
            former,
            rules,
        } = changed;
        if let Err(error) = self.journal.commit(changes).await {
            self.core.lock().await.put_back_rules(network, former);
            return Err(error);
        }
        self.rules_changed.notify_one();
        Ok(rules)
    }

    /// Forgets all rules.
    pub(super) async fn clear_rules(&self) -> Result<(), ApiError> {
        let networks = self.core.lock().await.show_networks();
        let networks = networks.into_iter().map(|network| Some(network.name));
        for network in networks.chain([None]) {
            self.change_rules(network.as_ref(), RuleChange::Replace(Vec::new()))
                .await?;
        }
        Ok(())
    }
}

/// Takes up what logged rules have told, as long as there are some.
pub(super) async fn note_logged(service: Arc<Service>) {
    loop {
        if !service.core.lock().await.has_logged_rules() {
            service.rules_changed.notified().await;
            continue;
        }
        super::after(LOOK).await;
        service.core.lock().await.take_logged();
    }
}
