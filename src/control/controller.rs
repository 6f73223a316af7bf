//! The active controller: takes decisions one request at a time, makes them durable, tells the shards.
//!
//! Core: the control thread.
//! Ordering: a request is answered after its commands are durable and every shard has reconciled its
//! partitions with them, so that a client that was told "created" finds the topic on any connection.

use std::sync::Arc;

use cluster::controller::Refusal;
use cluster::metadata::{Command, Image, MetadataError};
use protocol::error_code::ErrorCode;
use runtime::mailbox::{Receiver, Sender};

use super::metadata_log::{MetadataLog, MetadataLogError};
use super::{Decided, Request};
use crate::partition::reconcile::reconcile;
use crate::partition::shard::{ShardTask, call_from};

/// The authoritative image and its log.
pub struct Controller {
    log: MetadataLog,
    image: Arc<Image>,
    mailboxes: Arc<[Sender<ShardTask>]>,
}

/// Who this broker is, for its registration.
pub struct Registration {
    /// Broker id.
    pub id: i32,
    /// Host for clients.
    pub host: String,
    /// Port for clients.
    pub port: u16,
    /// Rack.
    pub rack: Option<String>,
    /// Names the cluster if it has no name yet.
    pub new_cluster_id: String,
}

impl Controller {
    /// Registers this broker: a new broker epoch, and a new leader epoch of all that it leads.
    pub fn start(
        mut log: MetadataLog,
        mut image: Image,
        mailboxes: Arc<[Sender<ShardTask>]>,
        registration: Registration,
    ) -> Result<Self, MetadataLogError> {
        let Registration {
            id,
            host,
            port,
            rack,
            new_cluster_id,
        } = registration;
        let mut commands = vec![Command::RegisterBroker {
            id,
            host,
            port,
            rack,
        }];
        if image.cluster_id().is_empty() {
            commands.push(Command::NameCluster {
                cluster_id: new_cluster_id,
            });
        }
        for command in &commands {
            image
                .apply(command)
                .map_err(MetadataLogError::Registration)?;
        }
        log.append(&commands)?;
        Ok(Self {
            log,
            image: Arc::new(image),
            mailboxes,
        })
    }

    /// The image with this broker registered.
    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// Serves requests until their senders are gone.
    ///
    /// # Errors
    /// The metadata log failed: what is durable is no longer known, so the node must stop.
    pub async fn run(&mut self, mut requests: Receiver<Request>) -> Result<(), MetadataLogError> {
        while let Some(request) = requests.recv().await {
            let Request {
                decisions,
                validate_only,
                reply,
            } = request;
            let mut next = Image::clone(&self.image);
            let mut results = Vec::with_capacity(decisions.len());
            let mut commands = Vec::new();
            for decision in decisions {
                let decided = decision(&next).and_then(|command| {
                    next.apply(&command).map_err(|error| refuse(&error))?;
                    Ok(command)
                });
                commands.extend(decided.as_ref().ok().cloned());
                results.push(decided);
            }
            if !validate_only && !commands.is_empty() {
                self.log.append(&commands)?;
                self.log.compact(&next)?;
                self.publish(Arc::new(next), &mut results).await;
            }
            // Whoever asked may have gone away.
            let _ = reply.send(Decided {
                results,
                image: self.image.clone(),
            });
        }
        Ok(())
    }

    /// Lets every shard reconcile with the image. A shard that cannot open a log says so in its own
    /// log; the decision stands and is tried again at the next change or start.
    async fn publish(&mut self, image: Arc<Image>, results: &mut [Result<Command, Refusal>]) {
        self.image = image;
        let mut failed = None;
        for shard in 0..self.mailboxes.len() {
            let image = self.image.clone();
            let work = move |shard| async move { reconcile(shard, image).await };
            match call_from(&self.mailboxes, shard, work).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed = Some(error.to_string()),
                Err(_) => failed = Some("the node is stopping".to_owned()),
            }
        }
        if let Some(message) = failed {
            tracing::error!(message, "a shard could not follow the metadata");
            let code = ErrorCode::KafkaStorageError;
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(Refusal {
                    code,
                    message: message.clone(),
                });
            }
        }
    }
}

/// A command that was decided on this very image and yet contradicts it: the controller's rules have a
/// gap. Nothing has changed, and whoever asked is told.
fn refuse(error: &MetadataError) -> Refusal {
    tracing::error!(%error, "a decision contradicts the metadata");
    Refusal {
        code: ErrorCode::UnknownServerError,
        message: error.to_string(),
    }
}
