//! The client of the object store with the recordings of all sites.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{
    Certificate, ClientOptions, Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, RetryConfig, WriteMultipart,
};
use sha2::{Digest, Sha256};

use super::ArchiveError;
use super::config::Config;
use crate::archive::{ArchiveFailure, ArchiveOutcome, ArchivedObject};
use crate::text::{error_chain, hex};

/// A client of the object store of the archive.
#[derive(Clone, Debug)]
pub(crate) struct ObjectArchive {
    store: Arc<dyn ObjectStore>,
    /// Time limit for one recording, in addition to the time of its transfer over the slowest supported network
    /// connection.
    patience: Duration,
}

impl ObjectArchive {
    /// Opens the store that the configuration names. Does not connect yet.
    ///
    /// # Errors
    /// Fails if a setting is wrong or a file cannot be read.
    pub(crate) fn open(config: &Config) -> Result<Self, ArchiveError> {
        if let Some(folder) = config.objects.strip_prefix("file://") {
            // A missing folder is not created, because its disk may not be mounted. The copies would then fill the
            // system's disk.
            if !Path::new(folder).is_dir() {
                return Err(ArchiveError::Setting(format!(
                    "the folder {folder} of archive.objects does not exist: mount its disk, or create the folder there"
                )));
            }
            let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| store_error(&e))?.with_fsync(true);
            return Ok(Self { store: Arc::new(store), patience: PATIENCE });
        }
        let Some(place) = config.objects.strip_prefix("s3://") else {
            return Err(ArchiveError::Setting(format!(
                "archive.objects = \"{}\" must begin with s3:// or file:///",
                config.objects
            )));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let store = s3(config, bucket)?;
        Ok(Self {
            store: if prefix.is_empty() { store } else { Arc::new(PrefixStore::new(store, ObjectPath::from(prefix))) },
            patience: PATIENCE,
        })
    }

    /// Creates an object from its file, unless the store already has an object under its key.
    pub(crate) async fn put_new(&self, object: &ArchivedObject) -> ArchiveOutcome {
        self.in_time(object, self.put_in_any_time(object)).await
    }

    /// Runs a request about a recording, with a time limit that depends on the size of the recording. Without the
    /// limit, a request that hangs would delay all other calls.
    async fn in_time(&self, object: &ArchivedObject, request: impl Future<Output = ArchiveOutcome>) -> ArchiveOutcome {
        let limit = self.patience + Duration::from_secs(object.bytes / LOWEST_BYTES_A_SECOND);
        tokio::time::timeout(limit, request).await.unwrap_or_else(|_| {
            let slow = format!("object store: no answer within {} s", limit.as_secs());
            ArchiveOutcome::Failed(ArchiveFailure::Passing(slow))
        })
    }

    async fn put_in_any_time(&self, object: &ArchivedObject) -> ArchiveOutcome {
        let key = ObjectPath::from(object.key.as_str());
        let stored = if object.bytes > MAX_SINGLE_PUT {
            match self.store.head(&key).await {
                Ok(_) => return ArchiveOutcome::AlreadyThere,
                // An access key that may only write is not allowed to check whether an object exists. Then the object
                // is sent, perhaps a second time. That does no harm, because the object's key contains the checksum of
                // the content.
                Err(
                    StoreError::NotFound { .. }
                    | StoreError::PermissionDenied { .. }
                    | StoreError::Unauthenticated { .. },
                ) => self.put_in_pieces(&key, object).await,
                Err(error) => Err(passing(&error)),
            }
        } else {
            match read_checked(object) {
                Ok(payload) => {
                    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                    match self.store.put_opts(&key, payload, options).await {
                        Ok(_) => Ok(()),
                        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                            return ArchiveOutcome::AlreadyThere;
                        }
                        Err(error) => Err(passing(&error)),
                    }
                }
                Err(failure) => Err(failure),
            }
        };
        stored.map_or_else(ArchiveOutcome::Failed, |()| ArchiveOutcome::Done)
    }

    /// Uploads a large file in pieces. The object exists in the store only after the last piece.
    async fn put_in_pieces(&self, key: &ObjectPath, object: &ArchivedObject) -> Result<(), ArchiveFailure> {
        let mut file = std::fs::File::open(&object.path).map_err(|e| file_failure(object, &e.to_string()))?;
        let upload = self.store.put_multipart(key).await.map_err(|e| passing(&e))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
        if let Err(failure) = send_pieces(&mut upload, &mut file, object).await {
            let _ = upload.abort().await; // if this fails, a lifecycle rule of the store removes the pieces
            return Err(failure);
        }
        upload.finish().await.map_err(|e| passing(&e))?;
        Ok(())
    }

    /// Compares the object in the store with the recording, by size and checksum.
    pub(crate) async fn compare(&self, object: &ArchivedObject) -> ArchiveOutcome {
        self.in_time(object, self.compare_in_any_time(object)).await
    }

    async fn compare_in_any_time(&self, object: &ArchivedObject) -> ArchiveOutcome {
        match self.digest(&object.key).await {
            Ok((bytes, sha256)) if bytes == object.bytes && sha256 == object.sha256 => ArchiveOutcome::Done,
            Ok(_) => ArchiveOutcome::Failed(ArchiveFailure::Different),
            Err(error) => ArchiveOutcome::Failed(ArchiveFailure::Passing(error.to_string())),
        }
    }

    /// Returns size and SHA-256 of an object.
    ///
    /// # Errors
    /// Fails if the store has no such object or does not answer.
    pub(crate) async fn digest(&self, key: &str) -> Result<(u64, String), ArchiveError> {
        let mut sum = Sha256::new();
        let mut bytes = 0;
        self.read(key, |piece| {
            sum.update(piece);
            bytes += piece.len() as u64;
            Ok(())
        })
        .await?;
        Ok((bytes, hex(&sum.finalize())))
    }

    /// Returns a range of the bytes of an object, as a stream.
    ///
    /// # Errors
    /// Fails if the store has no such object or does not answer.
    pub(crate) async fn range(
        &self,
        key: &str,
        bytes: Range<u64>,
    ) -> Result<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + use<>, ArchiveError> {
        let options = GetOptions { range: Some(GetRange::Bounded(bytes)), ..GetOptions::default() };
        let found = self.store.get_opts(&ObjectPath::from(key), options).await.map_err(|e| store_error(&e))?;
        Ok(found.into_stream().map_ok(Vec::from).map_err(std::io::Error::other))
    }

    /// Reads an object piece by piece, and passes each piece to the function `take`.
    ///
    /// # Errors
    /// Fails if the store has no such object or does not answer, or if `take` fails.
    pub(crate) async fn read(
        &self,
        key: &str,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), ArchiveError> {
        let found = self.store.get(&ObjectPath::from(key)).await.map_err(|e| store_error(&e))?;
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| store_error(&e))?;
            take(&piece).map_err(|e| ArchiveError::Objects(e.to_string()))?;
        }
        Ok(())
    }
}

/// Sends a file in pieces. Fails at the end if its checksum differs from the checksum in the journal.
async fn send_pieces(
    upload: &mut WriteMultipart,
    file: &mut std::fs::File,
    object: &ArchivedObject,
) -> Result<(), ArchiveFailure> {
    let mut sum = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece).map_err(|e| file_failure(object, &e.to_string()))?;
        if read == 0 {
            break;
        }
        sum.update(&piece[..read]);
        upload.wait_for_capacity(PIECES_UNDER_WAY).await.map_err(|e| passing(&e))?;
        upload.write(&piece[..read]);
    }
    if hex(&sum.finalize()) == object.sha256 { Ok(()) } else { Err(file_failure(object, CHANGED)) }
}

fn s3(config: &Config, bucket: &str) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    // `install_default` fails if the process already has a default crypto provider. That is no problem.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|source| ArchiveError::File { path: path.clone(), source })?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| store_error(&e))? {
            options = options.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::new()
        .with_client_options(options)
        .with_bucket_name(bucket)
        .with_region(&config.region)
        .with_access_key_id(&config.access_key)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One retry of a request suffices, because the whole archiving job is tried again later. More retries would
        // delay the other calls.
        .with_retry(RetryConfig { max_retries: 1, retry_timeout: REQUEST_TIMEOUT, ..RetryConfig::default() });
    if let Some(path) = &config.secret_key_file {
        let secret =
            std::fs::read_to_string(path).map_err(|source| ArchiveError::File { path: path.clone(), source })?;
        builder = builder.with_secret_access_key(secret.trim());
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    Ok(Arc::new(builder.build().map_err(|e| store_error(&e))?))
}

/// Reads a file. Fails if its checksum differs from the checksum in the journal.
fn read_checked(object: &ArchivedObject) -> Result<PutPayload, ArchiveFailure> {
    let content = std::fs::read(Path::new(&object.path)).map_err(|e| file_failure(object, &e.to_string()))?;
    if hex(&Sha256::digest(&content)) != object.sha256 {
        return Err(file_failure(object, CHANGED));
    }
    Ok(PutPayload::from(content))
}

fn file_failure(object: &ArchivedObject, reason: &str) -> ArchiveFailure {
    ArchiveFailure::File(format!("{}: {reason}", object.path))
}

fn passing(error: &StoreError) -> ArchiveFailure {
    ArchiveFailure::Passing(store_error(error).to_string())
}

fn store_error(error: &StoreError) -> ArchiveError {
    ArchiveError::Objects(error_chain(error))
}

const CHANGED: &str = "its content is not what the journal says; run `callspan calls verify`";
/// Maximum size of an object that is sent in one request, bytes. Larger objects are sent in pieces. One request is
/// better, because with it the store can refuse to replace an existing object. Half an hour of stereo WAV at 8 kHz has
/// 58 MB.
const MAX_SINGLE_PUT: u64 = 64 << 20;
const PIECE_BYTES: usize = 8 << 20;
const PIECES_UNDER_WAY: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Speed of the slowest supported network connection, bytes per second: 128 kbit/s.
const LOWEST_BYTES_A_SECOND: u64 = 16_000;
/// Maximum time that the object store may take to respond after a file was transferred, seconds.
const SLOWEST_ANSWER_S: u64 = 300;
/// Time limit for storing one recording: to connect and to wait for the response. The time of the transfer is added to
/// it.
const PATIENCE: Duration = Duration::from_secs(CONNECT_TIMEOUT.as_secs() + SLOWEST_ANSWER_S);
/// Maximum time for one request: the transfer of [`MAX_SINGLE_PUT`] bytes over the slowest supported connection, plus
/// the time for the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(MAX_SINGLE_PUT / LOWEST_BYTES_A_SECOND + SLOWEST_ANSWER_S);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_never_answers_is_tried_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        std::fs::write(&path, b"sound").unwrap();
        // The operating system accepts connections to the listener, but no program responds. So the request to store
        // the object must end at its time limit.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config {
            objects: String::from("s3://calls"),
            endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
            access_key: String::from("key"),
            secret_key_file: Some(path.clone()),
            ..Config::default()
        };
        let archive = ObjectArchive { patience: Duration::from_millis(200), ..ObjectArchive::open(&config).unwrap() };
        let object = ArchivedObject {
            path: path.display().to_string(),
            key: String::from("north/a.wav"),
            bytes: 5,
            sha256: hex(&Sha256::digest(b"sound")),
            part: 1,
            stored: false,
            again: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcomes = runtime.block_on(async { [archive.put_new(&object).await, archive.compare(&object).await] });
        for outcome in outcomes {
            let is_passing = |why: &str| why.contains("no answer within");
            assert!(
                matches!(&outcome, ArchiveOutcome::Failed(ArchiveFailure::Passing(why)) if is_passing(why)),
                "{outcome:?}"
            );
        }
    }
}
