//! Observes each step from where it runs, and tells of it when it has ended.

use std::time::Instant;

use http::Uri;
use jiff::Timestamp;

use super::finding::{CheckStep, Finding, Step, StepOutcome};
use super::judge::{ClockReading, EndpointFault, Layers, Observation, judge};
use super::subject::{Subject, SubjectIdentity, Target};
use crate::azure::acr::{self, AcrError, AcrRefusal, BlobSource, Manifest};
use crate::azure::jwt::Claims;
use crate::azure::mint::{MintKind, MintRequest, MintStep, Minter};
use crate::base::clock::Clock;
use crate::base::secret_text::SecretText;
use crate::http::HttpClient;

/// The tag that is tried where none is named and none can be listed.
const DEFAULT_TAG: &str = "latest";

/// What a check works with.
pub struct Runner<'a> {
    /// What asks the registry.
    pub http: &'a HttpClient,
    /// What asks for tokens.
    pub minter: &'a Minter,
    /// This machine's time.
    pub clock: Clock,
    /// What is checked, and with which identity.
    pub subject: &'a Subject,
}

/// What is told about each step.
pub type Tell<'a> = &'a mut (dyn FnMut(Finding) + Send);

/// The steps that have ended. A step's time is what has passed since the one before it ended.
struct Log<'a> {
    subject: &'a Subject,
    tell: Tell<'a>,
    since: Instant,
    last: Option<CheckStep>,
    failed: Option<CheckStep>,
}

impl Log<'_> {
    /// Judges a step, tells of it, and says whether it passed.
    fn observed(&mut self, step: CheckStep, observation: &Observation) -> bool {
        let outcome = judge(self.subject, step, observation);
        let passed = matches!(outcome, StepOutcome::Passed { .. });
        if matches!(outcome, StepOutcome::Failed(_)) {
            self.failed.get_or_insert(step);
        }
        let now = Instant::now();
        let took = Some(now.duration_since(self.since));
        self.since = now;
        self.last = Some(step);
        (self.tell)(Finding { step, took, outcome });
        passed
    }

    fn skipped(&mut self, step: CheckStep, why: String) {
        self.last = Some(step);
        let outcome = StepOutcome::Skipped { why };
        (self.tell)(Finding {
            step,
            took: None,
            outcome,
        });
    }

    /// A step that succeeds more than once, with one audience after the other, is told about once.
    fn given(&mut self, step: CheckStep) {
        if self.last.is_none_or(|last| last < step) {
            self.observed(step, &Observation::Given);
        }
    }
}

impl Runner<'_> {
    /// Goes through the steps, and leaves out those that depend on a failed one.
    pub async fn run(&self, tell: Tell<'_>) {
        let mut log = Log {
            subject: self.subject,
            tell,
            since: Instant::now(),
            last: None,
            failed: None,
        };
        let mut reading = None;
        let token = if self.reach(&mut log, &mut reading).await {
            self.reach_endpoint(&mut log).await;
            self.token(&mut log).await
        } else {
            None
        };
        if let (Some(token), Some(target)) = (&token, &self.subject.target) {
            let repository = &target.repository;
            let (target, answer) = self.manifest(target, token).await;
            let reference = target.reference.clone();
            let is_there = log.observed(CheckStep::Manifest, &Observation::Manifest { target, answer });
            if let Some(reference) = reference.filter(|_| is_there) {
                let layers = self.layers(repository, &reference, token).await;
                log.observed(CheckStep::Layers, &Observation::Layers(layers));
            }
        }
        self.leave_out(&mut log);
        match reading {
            Some(mut reading) => {
                let claims = token.and_then(|token| Claims::parse(token.expose()).ok());
                reading.token_issued_at = claims.and_then(|claims| claims.issued_at());
                log.observed(CheckStep::Clock, &Observation::Clock(reading));
            }
            None => log.skipped(CheckStep::Clock, "no answer had a Date header".to_owned()),
        }
    }

    /// Everything that needs no identity.
    async fn reach(&self, log: &mut Log<'_>, reading: &mut Option<ClockReading>) -> bool {
        let url = greeting_of(self.subject.login_server.as_str());
        let resolved = self.http.resolve(&url).await;
        if !log.observed(CheckStep::Dns, &Observation::Resolved(resolved)) {
            return false;
        }
        let connected = self.http.connect(&url).await;
        if !log.observed(CheckStep::Tls, &Observation::Connected(connected)) {
            return false;
        }
        let asked = (self.clock)();
        let answer = acr::greet(self.http, &self.subject.login_server).await;
        let local = (self.clock)();
        let challenged = answer.and_then(|answer| {
            *reading = Some(ClockReading {
                local: midway(asked, local),
                date: answer.date(),
                token_issued_at: None,
            });
            acr::challenge_in(&answer, &self.subject.login_server, local).map(drop)
        });
        log.observed(CheckStep::Challenge, &Observation::Challenged(challenged))
    }

    /// The endpoint that was named: no call to the registry itself shows whether it works.
    async fn reach_endpoint(&self, log: &mut Log<'_>) {
        let Some(endpoint) = &self.subject.endpoint else {
            return;
        };
        let found = self.endpoint(endpoint).await;
        log.observed(CheckStep::Endpoint, &Observation::Endpoint(found));
    }

    /// No credential goes along: users who may write `AcrRegistries` choose the custom domains.
    async fn endpoint(&self, host: &str) -> Result<&'static str, EndpointFault> {
        let url = greeting_of(host);
        self.http.resolve(&url).await.map_err(EndpointFault::Unreached)?;
        let version = self.http.connect(&url).await.map_err(EndpointFault::Unreached)?;
        let login_server = &self.subject.login_server;
        acr::challenge_at(self.http, host, login_server, (self.clock)())
            .await
            .map_err(EndpointFault::Answer)?;
        Ok(version)
    }

    /// The token that the identity is given in the end.
    async fn token(&self, log: &mut Log<'_>) -> Option<SecretText> {
        match &self.subject.identity {
            SubjectIdentity::Nobody { .. } => None,
            SubjectIdentity::Broken { message } => {
                log.observed(CheckStep::Entra, &Observation::Incomplete(message.clone()));
                None
            }
            SubjectIdentity::Mint(request) => self.mint(log, request).await,
            SubjectIdentity::Password { username, password } => {
                let not_needed = "the user name and the password are used as they are";
                log.skipped(CheckStep::Entra, not_needed.to_owned());
                log.skipped(CheckStep::Exchange, not_needed.to_owned());
                let given = self.log_in(username, password).await;
                let token = given.as_ref().ok().cloned();
                log.observed(CheckStep::AccessToken, &Observation::LoggedIn(given.map(drop)));
                token
            }
        }
    }

    async fn mint(&self, log: &mut Log<'_>, request: &MintRequest) -> Option<SecretText> {
        let mut request = request.clone();
        if let Some(target) = &self.subject.target {
            request.kind = MintKind::AccessToken {
                repositories: vec![target.repository.clone()],
            };
        }
        let minted = self
            .minter
            .mint_watched(&request, &mut |step| log.given(step_of(step)))
            .await;
        match minted {
            Ok(credential) => Some(credential.password),
            Err(error) => {
                // With a second audience an earlier step may fail than the one that had been reached.
                let next = log.last.map_or(CheckStep::Entra, step_after);
                let step = step_of(error.step()).max(next);
                log.observed(step, &Observation::Refused(error));
                None
            }
        }
    }

    /// First without a repository: a wrong password is another matter than a missing right.
    async fn log_in(&self, username: &str, password: &SecretText) -> Result<SecretText, AcrError> {
        let ask = |repository| {
            let login_server = &self.subject.login_server;
            acr::password_token(
                self.http,
                login_server,
                username,
                password,
                repository,
                (self.clock)(),
            )
        };
        let mut given = ask(None).await?;
        if let Some(target) = &self.subject.target {
            given = ask(Some(target.repository.as_str())).await?;
        }
        Ok(given.token)
    }

    async fn manifest(&self, target: &Target, token: &SecretText) -> (Target, Result<Manifest, AcrError>) {
        let (http, login_server) = (self.http, &self.subject.login_server);
        let repository = &target.repository;
        let of = |reference| Target {
            repository: repository.clone(),
            reference,
        };
        let reference = match &target.reference {
            Some(reference) => reference.clone(),
            None => match acr::first_tag(http, login_server, repository, token, (self.clock)()).await {
                Ok(Some(tag)) => tag,
                Err(error @ AcrError::Refused(AcrRefusal { status: 404, .. })) => {
                    return (of(None), Err(error));
                }
                // A scope map may allow pulling and not listing.
                Ok(None) | Err(_) => DEFAULT_TAG.to_owned(),
            },
        };
        let answer = acr::manifest(http, login_server, repository, &reference, token, (self.clock)()).await;
        (of(Some(reference)), answer)
    }

    /// Goes the way of a layer, short of its bytes. The token does not go along.
    async fn layers(&self, repository: &str, reference: &str, token: &SecretText) -> Layers {
        let (http, login_server) = (self.http, &self.subject.login_server);
        let now = (self.clock)();
        let source = async {
            let digest =
                acr::configuration_digest(http, login_server, repository, reference, token, now).await?;
            match digest {
                Some(digest) => acr::blob_source(http, login_server, repository, &digest, token, now)
                    .await
                    .map(Some),
                None => Ok(None),
            }
        };
        let address = match source.await {
            Ok(Some(BlobSource::Elsewhere(address))) => address,
            Ok(Some(BlobSource::Registry)) => return Layers::Registry,
            Ok(None) => return Layers::NoImage,
            Err(error) => return Layers::Refused(error),
        };
        let host = address.host().unwrap_or_default().to_owned();
        let reached = http.send(acr::first_byte(address)).await;
        let reached = reached.map(|response| response.status);
        Layers::Elsewhere { host, reached }
    }

    /// The steps that were not reached.
    fn leave_out(&self, log: &mut Log<'_>) {
        let why = match (log.failed, &self.subject.identity) {
            // A failed endpoint keeps no other step from being tried.
            (Some(CheckStep::Endpoint) | None, SubjectIdentity::Nobody { why }) => why.clone(),
            (Some(step), _) => format!("not tried, since this failed: {}", step.title()),
            (None, _) => return,
        };
        let mut steps = vec![CheckStep::Tls, CheckStep::Challenge];
        if self.subject.endpoint.is_some() {
            steps.push(CheckStep::Endpoint);
        }
        steps.extend([CheckStep::Entra, CheckStep::Exchange]);
        if self.subject.target.is_some() {
            steps.extend([CheckStep::AccessToken, CheckStep::Manifest, CheckStep::Layers]);
        }
        let mut why = Some(why);
        for step in steps {
            if log.last.is_none_or(|last| last < step) {
                // Said once; what follows hangs on the same.
                let why = why.take().unwrap_or_else(|| "left out with it".to_owned());
                log.skipped(step, why);
            }
        }
    }
}

/// Where a registry greets its clients. A login server is a host by its type, and so is an endpoint of one.
fn greeting_of(host: &str) -> Uri {
    Uri::builder()
        .scheme("https")
        .authority(host)
        .path_and_query("/v2/")
        .build()
        .unwrap_or_default()
}

/// The step of minting that follows one that passed.
fn step_after(step: CheckStep) -> CheckStep {
    match step {
        CheckStep::Entra => CheckStep::Exchange,
        CheckStep::Exchange => CheckStep::AccessToken,
        CheckStep::Dns
        | CheckStep::Tls
        | CheckStep::Challenge
        | CheckStep::Endpoint
        | CheckStep::AccessToken
        | CheckStep::Manifest
        | CheckStep::Layers
        | CheckStep::Clock
        | CheckStep::Spec
        | CheckStep::Controller
        | CheckStep::Ready
        | CheckStep::PullAuthorized
        | CheckStep::Policies
        | CheckStep::CustomDomains
        | CheckStep::Credential
        | CheckStep::PullSecrets => CheckStep::Entra,
    }
}

fn step_of(step: MintStep) -> CheckStep {
    match step {
        MintStep::Prepare | MintStep::Entra => CheckStep::Entra,
        MintStep::Exchange => CheckStep::Exchange,
        MintStep::AccessToken => CheckStep::AccessToken,
    }
}

fn midway(one: Timestamp, other: Timestamp) -> Timestamp {
    let half = other.duration_since(one) / 2;
    one.checked_add(half).unwrap_or(other)
}
