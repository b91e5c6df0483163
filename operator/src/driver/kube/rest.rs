//! A cluster at rest: what its agents said when nothing had to be done.
//!
//! Kubernetes tells by its watches when objects change; agents tell nobody, and have to be asked. Nobody tells of Secrets
//! either: who may watch them may read all of a namespace, and the operator may only get those that it knows by name. So
//! most looks at a steady cluster ask its agents, and for the versions of its Secrets, and while these are what they were
//! before, nothing else is read or computed. No step is ever chosen by such a look: it ends with nothing to do, or a whole
//! one follows.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::agents::{Agents, Target};
use crate::driver::ask;
use crate::observe::Answers;

/// Version of each Secret, by its name; none: it is not there.
pub(super) type Versions = BTreeMap<String, Option<String>>;

/// Whom to ask, and what they said.
#[derive(Debug, Clone)]
pub struct Rest {
    secrets: Api<Secret>,
    versions: Versions,
    targets: Arc<[Target]>,
    leader: Option<String>,
    /// Of all that was said, for it is only compared.
    digest: u64,
}

impl Rest {
    pub(super) fn new(
        secrets: Api<Secret>,
        versions: Versions,
        targets: Vec<Target>,
        answers: &BTreeMap<String, Answers>,
    ) -> Self {
        Rest {
            secrets,
            versions,
            targets: targets.into(),
            leader: ask::leader(answers),
            digest: digest(answers),
        }
    }

    /// Whether the agents still say the same, and the Secrets are those that were read.
    pub async fn lasts(&self, agents: &Agents) -> bool {
        let (same, answers) = futures::join!(
            self.secrets_last(),
            agents.ask_all(&self.targets, self.leader.as_deref())
        );
        same && digest(&answers) == self.digest
    }

    /// One that cannot be asked for counts as changed: the whole look that follows says why.
    async fn secrets_last(&self) -> bool {
        let now = versions_of(&self.secrets, self.versions.keys()).await;
        now.is_ok_and(|now| now == self.versions)
    }
}

/// The versions of Secrets, of which nothing else is sent.
pub(super) async fn versions_of(
    secrets: &Api<Secret>,
    names: impl IntoIterator<Item = &String>,
) -> Result<Versions, kube::Error> {
    let looks = names
        .into_iter()
        .map(async |name| -> Result<_, kube::Error> {
            let found = secrets.get_metadata_opt(name).await?;
            let version = found.and_then(|found| found.metadata.resource_version);
            Ok((name.clone(), version))
        });
    Ok(try_join_all(looks).await?.into_iter().collect())
}

/// Of everything but how long the log is, which grows with every write.
fn digest(answers: &BTreeMap<String, Answers>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, answers) in answers {
        let mut answers = answers.clone();
        if let Some(raft) = &mut answers.raft {
            raft.last_log_index = 0;
            raft.commit_index = 0;
        }
        // Gossip tells of members in any order.
        answers.members.sort_by(|a, b| a.name.cmp(&b.name));
        (name, format!("{answers:?}")).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Raft, Role, Seen, Status};

    fn said(change: impl Fn(&mut Answers)) -> u64 {
        let seen = |name: &str| Seen {
            name: name.to_owned(),
            ..Seen::default()
        };
        let mut answers = Answers {
            raft: Some(Raft::default()),
            members: vec![seen("a"), seen("b")],
            ..Answers::default()
        };
        change(&mut answers);
        digest(&BTreeMap::from([("a".to_owned(), answers)]))
    }

    #[test]
    fn growth_of_the_log_and_order_are_no_news_and_everything_else_is() {
        let before = said(|_| {});
        let same: [fn(&mut Answers); 2] = [
            |answers| answers.raft.as_mut().unwrap().last_log_index = 7,
            |answers| answers.members.reverse(),
        ];
        assert!(same.iter().all(|change| said(change) == before));
        let news: [fn(&mut Answers); 4] = [
            |answers| answers.raft.as_mut().unwrap().role = Role::Leader,
            |answers| answers.raft.as_mut().unwrap().term = 2,
            |answers| answers.members[1].status = Status::Failed,
            |answers| answers.cluster = Some(uuid::Uuid::nil()),
        ];
        assert!(news.iter().all(|change| said(change) != before));
    }
}
