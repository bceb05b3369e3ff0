//! Requests about environments.

use protocol::environment::{
    ArchiveEnvironment, EditEnvironment, Environment, EnvironmentList, EnvironmentSettings, SetupTest,
    TestSetup,
};
use protocol::ids::{EnvironmentId, SetupTestId};
use protocol::network::{NetworkTest, TestNetwork};
use protocol::secret::SetSecret;
use reqwest::Method;

use crate::client::{Client, LONG, SHORT};
use crate::error::ClientError;

impl Client {
    /// Environments that are archived, or all others: the default first.
    pub async fn environments(&self, archived: bool) -> Result<EnvironmentList, ClientError> {
        self.get(&format!("/environments?archived={archived}")).await
    }

    /// Makes an environment; with the same key at most once.
    pub async fn create_environment(
        &self,
        settings: &EnvironmentSettings,
        key: &str,
    ) -> Result<Environment, ClientError> {
        let request = self.request(Method::POST, "/environments").timeout(SHORT);
        self.json(request.header("idempotency-key", key).json(settings)).await
    }

    /// Replaces the settings of an environment.
    pub async fn edit_environment(
        &self,
        environment: EnvironmentId,
        edit: &EditEnvironment,
    ) -> Result<Environment, ClientError> {
        let request = self.request(Method::PUT, &format!("/environments/{environment}")).timeout(LONG);
        self.json(request.json(edit)).await
    }

    /// Hides an environment or brings it back.
    pub async fn archive_environment(
        &self,
        environment: EnvironmentId,
        archived: bool,
    ) -> Result<Environment, ClientError> {
        self.post(&format!("/environments/{environment}/archive"), &ArchiveEnvironment { archived }).await
    }

    /// Makes an environment the one of sessions that name none.
    pub async fn make_default_environment(
        &self,
        environment: EnvironmentId,
    ) -> Result<Environment, ClientError> {
        let path = format!("/environments/{environment}/default");
        self.json(self.request(Method::POST, &path).timeout(SHORT)).await
    }

    /// Forgets what setups left for later sessions.
    pub async fn refresh_environment(&self, environment: EnvironmentId) -> Result<Environment, ClientError> {
        let path = format!("/environments/{environment}/cache/refresh");
        self.json(self.request(Method::POST, &path).timeout(LONG)).await
    }

    /// One environment.
    pub async fn environment(&self, environment: EnvironmentId) -> Result<Environment, ClientError> {
        self.json(self.request(Method::GET, &format!("/environments/{environment}")).timeout(SHORT)).await
    }

    /// Tries a setup script out.
    pub async fn test_setup(
        &self,
        environment: EnvironmentId,
        test: &TestSetup,
    ) -> Result<SetupTest, ClientError> {
        self.post(&format!("/environments/{environment}/test-setup"), test).await
    }

    /// Whether a session of the environment could connect to a host.
    pub async fn test_network(
        &self,
        environment: EnvironmentId,
        test: &TestNetwork,
    ) -> Result<NetworkTest, ClientError> {
        self.post(&format!("/environments/{environment}/network-test"), test).await
    }

    /// Sets the value of a secret that the environment binds.
    pub async fn set_secret(
        &self,
        environment: EnvironmentId,
        name: &str,
        value: String,
    ) -> Result<(), ClientError> {
        let path = format!("/environments/{environment}/secrets/{name}");
        self.send(self.request(Method::PUT, &path).json(&SetSecret { value }).timeout(SHORT)).await.map(drop)
    }

    /// Forgets the value of a secret.
    pub async fn remove_secret(&self, environment: EnvironmentId, name: &str) -> Result<(), ClientError> {
        let path = format!("/environments/{environment}/secrets/{name}");
        self.send(self.request(Method::DELETE, &path).timeout(SHORT)).await.map(drop)
    }

    /// A setup test, with what it printed after a byte; waits a while for something new.
    pub async fn setup_test(&self, test: SetupTestId, after: u64) -> Result<SetupTest, ClientError> {
        self.json(self.request(Method::GET, &format!("/setup-tests/{test}?after={after}")).timeout(LONG))
            .await
    }

    /// Stops a setup test.
    pub async fn stop_setup_test(&self, test: SetupTestId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &format!("/setup-tests/{test}")).timeout(SHORT))
            .await
            .map(drop)
    }
}
