//! Teams that pull as identities of their own, each by an AcrPullBinding.

use pullpass_emulator::{Registry as AcrRegistry, Role, RoleAssignment};
use pullpass_test_support::{Login, Node};
use serde_json::{Value, json};

use crate::pods::pod;
use crate::world::{Test, World, shared, text};

const ACCOUNT: &str = "puller";
const BINDING: &str = "app";

/// What the owner of a namespace writes there.
fn objects(namespace: &str, login: &Login) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": namespace});
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": namespace, "annotations": {
                "azure.workload.identity/client-id": login.client,
                "azure.workload.identity/tenant-id": login.tenant,
            }},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata("pullpass-puller"),
            "rules": [{
                "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [ACCOUNT], "verbs": ["create"],
            }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata("pullpass-puller"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pullpass-puller"},
            "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": "pullpass-system"}],
        }),
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrPullBinding", "metadata": metadata(BINDING),
            "spec": {"loginServer": login.host, "serviceAccountName": ACCOUNT},
        }),
    ]
}

/// A team of its own: a namespace, an identity, and a repository that only this identity may pull.
struct Team {
    namespace: String,
    image: String,
}

fn team(
    world: &World,
    registry: &Login,
    login: Login,
    repository: &str,
) -> Result<Team, Box<dyn std::error::Error>> {
    let login = Login {
        host: registry.host.clone(),
        tenant: registry.tenant.clone(),
        ..login
    };
    let program = Node::program()?;
    world.azure.push_program(registry, repository, &program, &[])?;
    world.azure.grant(RoleAssignment {
        repositories: vec![repository.to_owned()],
        ..RoleAssignment::new(&login.client, &login.host, Role::RepositoryReader)
    })?;
    let namespace = world.namespace()?;
    let subject = format!("system:serviceaccount:{namespace}:{ACCOUNT}");
    world
        .azure
        .trust(world.cluster, &login, &subject, "api://AzureADTokenExchange")?;
    world.apply(&objects(&namespace, &login))?;
    world.cluster.run(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
        "--namespace",
        &namespace,
        &format!("acrpullbinding/{BINDING}"),
    ])?;
    Ok(Team {
        namespace,
        image: format!("{}/{repository}:v1", registry.host),
    })
}

#[test]
fn teams_run_their_own_images_and_not_each_others() -> Test {
    let world = shared()?;
    let (registry, second) = (world.login()?, world.login()?);
    let abac = AcrRegistry::abac(&registry.tenant, &registry.host);
    world
        .azure
        .put_registry(abac.with_admin(&registry.name, "test-admin"))?;
    let teams = [
        team(world, &registry, registry.clone(), "shop/app")?,
        team(world, &registry, second, "blog/app")?,
    ];
    for Team { namespace, .. } in &teams {
        for (number, Team { image, .. }) in teams.iter().enumerate() {
            let name = format!("pod-{number}");
            assert_eq!(world.create(&pod(namespace, &name, image))?, [""; 0]);
        }
    }
    for (own, Team { namespace, .. }) in teams.iter().enumerate() {
        let running = world.wait_until_running(namespace, &format!("pod-{own}"))?;
        assert_eq!(
            text(&running, "/spec/imagePullSecrets/0/name"),
            "pullpass-binding-app",
            "{running:#}"
        );
        // The image of the other team is on the node by now, or is about to be: that is no right to it.
        let refused = world.wait_until_refused(namespace, &format!("pod-{}", 1 - own))?;
        assert!(refused.contains("401 Unauthorized"), "{refused}");
    }
    Ok(())
}
