//! Whether a manager leads: while none does, what the objects say of themselves is as old as the last one.

use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::picture::{age, text};
use crate::{
    cli::{
        cluster::Cluster,
        manager::{LEASE, NAMESPACE},
    },
    runtime::lease,
};

/// The Leases that a manager may hold. Nothing when the user may not see them, or may see only some: then nobody knows.
pub async fn leases(cluster: &Cluster) -> Option<Vec<Value>> {
    let ours = ListParams::default().fields(&format!("metadata.name={LEASE}"));
    let found = match cluster.api("Lease", None).list(&ours).await {
        Ok(list) => list.items,
        Err(_) => vec![cluster.api("Lease", Some(NAMESPACE)).get_opt(LEASE).await.ok()??],
    };
    Some(found.into_iter().filter_map(|lease| serde_json::to_value(lease).ok()).collect())
}

/// What is known of the manager.
#[derive(Debug, PartialEq, Eq)]
pub struct Leader {
    /// Whether one leads.
    pub leads: bool,
    /// The namespace of the Lease; empty when there is none.
    pub namespace: String,
    /// Who holds it, or held it last; empty when it was given back.
    pub holder: String,
    /// When it was last renewed.
    pub renewed: String,
}

impl Leader {
    /// What the Leases say. One where the manager usually runs counts before others: anybody may call theirs the same.
    pub fn of(leases: &[Value], now: Timestamp) -> Self {
        let usual = |lease: &Value| text(lease, "/metadata/namespace") == NAMESPACE;
        let newest = leases.iter().max_by_key(|lease| (usual(lease), renewed(lease)));
        let Some(lease) = newest else {
            return Self { leads: false, namespace: String::new(), holder: String::new(), renewed: String::new() };
        };
        let holder = text(lease, "/spec/holderIdentity").to_owned();
        let good = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or_default();
        // Between a manager that gives it back and the next one there is a moment that is not worth a word.
        let good = good.max(i64::try_from(lease::DURATION.as_secs()).unwrap_or(i64::MAX));
        let past = renewed(lease).map(|renewed| now.as_second().saturating_sub(renewed.as_second()));
        Self {
            leads: past.is_some_and(|past| past <= good),
            namespace: text(lease, "/metadata/namespace").to_owned(),
            holder,
            renewed: text(lease, "/spec/renewTime").to_owned(),
        }
    }

    /// That none leads, since when, and what to look at; nothing while one does.
    pub fn notice(&self, now: Timestamp) -> Option<String> {
        let Self { leads, namespace, holder, renewed } = self;
        if *leads {
            return None;
        }
        if namespace.is_empty() {
            return Some(format!(
                "No manager leads: there is no Lease {LEASE} in the cluster, so nobody keeps this up to date. See: kubectl get pods -A -l app.kubernetes.io/name=bonafide"
            ));
        }
        let since = age(renewed, now);
        let since = if since.is_empty() { "was never renewed".to_owned() } else { format!("was last renewed {since} ago") };
        let by = if holder.is_empty() { ", and was given back".to_owned() } else { format!(", by {holder}") };
        Some(format!(
            "No manager leads: Lease {namespace}/{LEASE} {since}{by}. What stands here may be as old. See: kubectl -n {namespace} get pods"
        ))
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        json!({ "leads": self.leads, "namespace": self.namespace, "holder": self.holder, "renewed": self.renewed })
    }
}

fn renewed(lease: &Value) -> Option<Timestamp> {
    text(lease, "/spec/renewTime").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn lease(namespace: &str, holder: &str, renewed: &str) -> Value {
        json!({"metadata": {"name": LEASE, "namespace": namespace},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": if holder.is_empty() { 1 } else { 15 }, "renewTime": renewed}})
    }

    fn notice(leases: &[Value]) -> Option<String> {
        let now = NOW.parse().unwrap();
        Leader::of(leases, now).notice(now)
    }

    #[test]
    fn nothing_is_said_while_a_manager_leads_or_another_takes_over() {
        assert_eq!(notice(&[lease("bonafide-system", "a", "2026-11-22T11:59:45.5Z")]), None);
        assert_eq!(notice(&[lease("elsewhere", "a", "2026-11-22T11:59:58Z")]), None);
        assert_eq!(notice(&[lease("bonafide-system", "", "2026-11-22T11:59:50Z")]), None);
    }

    #[test]
    fn who_led_last_and_when_is_said_with_what_to_look_at() {
        let dead = notice(&[lease("bonafide-system", "bonafide-7d9", "2026-11-22T11:48:00Z")]).unwrap();
        assert_eq!(
            dead,
            "No manager leads: Lease bonafide-system/bonafide-manager was last renewed 12m ago, by bonafide-7d9. What stands here may be as old. See: kubectl -n bonafide-system get pods"
        );
        let ended = notice(&[lease("birds", "", "2026-11-22T11:48:00Z")]).unwrap();
        assert!(ended.contains("Lease birds/bonafide-manager was last renewed 12m ago, and was given back"), "{ended}");
        assert!(notice(&[lease("birds", "a", "")]).unwrap().contains("was never renewed"));
        assert!(notice(&[]).unwrap().contains("there is no Lease bonafide-manager in the cluster"));
    }

    #[test]
    fn a_lease_that_somebody_calls_the_same_hides_nothing() {
        let leases = [lease("bonafide-system", "a", "2026-11-22T11:00:00Z"), lease("tenant", "x", "2026-11-22T12:00:00Z")];
        assert!(notice(&leases).unwrap().contains("bonafide-system"));
    }
}
