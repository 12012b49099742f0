//! aws-sdk-s3 over this module's connections: the client most replicators use, with its own retries switched off.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body_util::BodyExt;

use super::patience::wait;
use super::versions::VersionsSeen;
use super::{Budget, Client, Dialer, Repeat, SendBody, Style};

/// Which checksums the SDK adds on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdkChecksums {
    /// Its default since 2025: CRC-32 in a trailer wherever the API allows one.
    WhenSupported,
    /// Only where the API demands one.
    WhenRequired,
}

impl Client {
    /// The AWS SDK's client for the same target, budget and connections.
    #[must_use]
    pub fn sdk(&self, checksums: SdkChecksums) -> aws_sdk_s3::Client {
        let target = &self.target;
        let (calculate, validate) = match checksums {
            SdkChecksums::WhenSupported => {
                (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
            }
            SdkChecksums::WhenRequired => {
                (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
            }
        };
        let address = self.dialer.address();
        let token = target.session_token.clone();
        let keys = Credentials::new(&target.access_key, &target.secret_key, token, None, "conformance");
        let connector = Connector {
            dialer: self.dialer.clone(),
            budget: self.budget.clone(),
            versions: self.versions.clone(),
        };
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(target.region.clone()))
            .endpoint_url(format!("{}://{}{}", address.scheme, self.sdk_authority(), address.path))
            .force_path_style(target.style == Style::Path)
            .credentials_provider(keys)
            .request_checksum_calculation(calculate)
            .response_checksum_validation(validate)
            .retry_config(RetryConfig::disabled())
            .http_client(SharedHttpClient::new(connector))
            .interceptor(AddHeaders(target.headers.clone()))
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Virtual-host style is built by the SDK from the endpoint's own name.
    fn sdk_authority(&self) -> String {
        let mut address = self.dialer.address().clone();
        if self.target.style == Style::Virtual {
            address.host = address.domain.clone();
        }
        address.authority_for(None)
    }
}

/// Adds the target's own headers before the request is signed.
#[derive(Debug)]
struct AddHeaders(BTreeMap<String, String>);

#[dyn_dispatch_hint]
impl Intercept for AddHeaders {
    fn name(&self) -> &'static str {
        "AddHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        for (name, value) in &self.0 {
            context.request_mut().headers_mut().insert(name.clone(), value.clone());
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Connector {
    dialer: Dialer,
    budget: Arc<Budget>,
    versions: VersionsSeen,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.answer(request).await })
    }
}

fn user(error: impl Into<BoxError>) -> ConnectorError {
    ConnectorError::user(error.into())
}

impl Connector {
    /// With the patience of the raw client: the SDK's own would hide how often it was needed.
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (mut parts, body) = request.try_into_http1x().map_err(user)?.into_parts();
        let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
        if let Ok(host) = http::HeaderValue::from_str(&authority) {
            parts.headers.insert("host", host);
        }
        let origin = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        parts.uri = origin.parse().map_err(|error: http::uri::InvalidUri| user(error))?;
        let body = body.collect().await.map_err(user)?.to_bytes();
        let mut repeated = 0;
        loop {
            let answer = self.attempt(&authority, &parts, &body).await?;
            let asked =
                answer.headers().get("retry-after").and_then(|value| value.to_str().ok()).unwrap_or("");
            if !wait(&self.budget, Repeat::WhenFailed, answer.status(), asked, repeated).await {
                return HttpResponse::try_from(answer.map(SdkBody::from)).map_err(user);
            }
            repeated += 1;
        }
    }

    async fn attempt(
        &self,
        authority: &str,
        parts: &http::request::Parts,
        body: &Bytes,
    ) -> Result<http::Response<Bytes>, ConnectorError> {
        self.budget.charge(body.len() as u64).map_err(user)?;
        let build = || {
            let body: SendBody =
                http_body_util::Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync();
            http::Request::from_parts(parts.clone(), body)
        };
        let response = self
            .dialer
            .exchange(authority, build(), build)
            .await
            .map_err(|error| ConnectorError::io(Box::new(error)))?;
        let (parts, body) = response.into_parts();
        self.versions.look_at(&parts.headers);
        let body = body.collect().await.map_err(|error| ConnectorError::io(Box::new(error)))?.to_bytes();
        self.budget.charge_answer(body.len() as u64).map_err(user)?;
        Ok(http::Response::from_parts(parts, body))
    }
}
