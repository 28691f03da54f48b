//! `pullpass bind` and `pullpass unbind`, on a cluster where pullpass runs with the component bindings.

use std::error::Error;
use std::path::Path;

use pullpass_test_support::{Login, wait_for};
use serde_json::{Value, json};

use crate::bound_world::with_bindings;
use crate::command::{Ran, finish, plain, pullpass, run};
use crate::world::{SOON, Test, World, shared, text};

/// A namespace of its own, and a registry.
struct Team {
    world: &'static World<'static>,
    login: Login,
    namespace: String,
}

impl Team {
    fn new() -> Result<Self, Box<dyn Error>> {
        let world = with_bindings()?;
        Ok(Self {
            world,
            login: world.login()?,
            namespace: world.pullpass.new_namespace(&[])?,
        })
    }

    fn run(&self, command: &str, registry: &str, flags: &[&str]) -> Result<Ran, Box<dyn Error>> {
        self.run_as(self.world.cluster.kubeconfig(), command, registry, flags)
    }

    fn run_as(
        &self,
        kubeconfig: &Path,
        command: &str,
        registry: &str,
        flags: &[&str],
    ) -> Result<Ran, Box<dyn Error>> {
        let words = [command, registry, "--namespace", &self.namespace];
        run(kubeconfig, &[&words, flags].concat())
    }

    fn bind(&self, flags: &[&str]) -> Result<Ran, Box<dyn Error>> {
        let account = ["--service-account=puller"];
        self.run("bind", &self.login.name, &[&account, flags].concat())
    }

    /// The flags that say which identity the ServiceAccount is.
    fn create(&self) -> [&str; 5] {
        let Login { client, tenant, .. } = &self.login;
        ["--create", "--client-id", client, "--tenant-id", tenant]
    }

    fn trust(&self) -> Test {
        self.world.trust(&self.login, &self.namespace, "puller")
    }

    /// The same for every run.
    fn plain(&self, text: &str) -> String {
        plain(text, &self.login).replace(&self.namespace, "TEAM")
    }

    /// The names of the namespace's objects of a kind that is there for the binding.
    fn objects(&self, kinds: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let get = ["get", kinds, "--output=name", "--namespace", &self.namespace];
        let found = self.world.cluster.run(&get)?.stdout;
        Ok(found.lines().map(str::to_owned).collect())
    }
}

/// `--dry-run=server`, which the API server carries out except for keeping what it did.
impl Team {
    fn unbinding_on_trial_keeps_everything(&self) -> Test {
        let before = self.objects(ALL)?;
        let said = self
            .run("unbind", &self.login.host, &["--dry-run=server"])?
            .ok()?;
        assert_eq!(
            self.plain(&said),
            "would delete acrpullbinding.pullpass.dev/REGISTRY in namespace TEAM, and with it secret/pullpass-binding-REGISTRY \
             there (server dry run)\n"
        );
        assert_eq!(self.objects(ALL)?, before);
        Ok(())
    }

    fn withdrawing_on_trial_keeps_everything(&self) -> Test {
        let before = self.objects(ALL)?;
        let said = self.run("unbind", "second", &["--dry-run=server"])?.ok()?;
        let [role, binding] = GRANT;
        let grant =
            [binding, role].map(|part| format!("would delete {part} in namespace TEAM (server dry run)\n"));
        let said = self.plain(&said);
        assert!(said.starts_with(&grant.concat()), "{said}");
        assert!(said.ends_with(" there (server dry run)\n"), "{said}");
        assert_eq!(self.objects(ALL)?, before);
        Ok(())
    }
}

/// What binding and pullpass write.
const ALL: &str = "role,rolebinding,acrpullbinding,secret";
const WRITTEN: &str = "\
serviceaccount/puller created
role.rbac.authorization.k8s.io/pullpass-puller created
rolebinding.rbac.authorization.k8s.io/pullpass-puller created
acrpullbinding.pullpass.dev/REGISTRY created
";
const READY: &str = "REGISTRY.azurecr.io is ready in namespace TEAM: its credential expires at TIME, and is refreshed before. New \
                     Pods there with its images get the pull secret pullpass-binding-REGISTRY.\n";
const GRANT: [&str; 2] = [
    "role.rbac.authorization.k8s.io/pullpass-puller",
    "rolebinding.rbac.authorization.k8s.io/pullpass-puller",
];

#[test]
fn binding_writes_what_is_needed_and_unbinding_deletes_it() -> Test {
    let team = Team::new()?;
    team.trust()?;
    let bound = team.bind(&team.create())?;
    assert!(
        team.plain(&bound.stderr).starts_with(
            "Waiting for pullpass to mint a credential for REGISTRY.azurecr.io as ServiceAccount puller of namespace TEAM\n"
        ),
        "{bound:?}"
    );
    assert_eq!(team.plain(&bound.ok()?), format!("{WRITTEN}{READY}"));
    let secret = format!("pullpass-binding-{}", team.login.name);
    assert!(team.world.secret(&team.namespace, &secret)?.is_some());
    for flags in [&[][..], &team.create()] {
        let again = team.plain(&team.bind(flags)?.ok()?);
        let account = if flags.is_empty() {
            ""
        } else {
            "serviceaccount/puller unchanged\n"
        };
        let [role, binding] = GRANT;
        let expected = format!(
            "{account}{role} unchanged\n{binding} unchanged\nacrpullbinding.pullpass.dev/REGISTRY unchanged\n{READY}"
        );
        assert_eq!(again, expected);
    }

    // Another registry by the same ServiceAccount needs the same grant.
    let other = team.world.login()?;
    let second = ["--service-account=puller", "--no-wait", "--name=second"];
    team.run("bind", &other.host, &second)?.ok()?;
    let said = team.run("unbind", &team.login.host, &["--dry-run"])?.ok()?;
    assert_eq!(
        team.plain(&said),
        "would delete acrpullbinding.pullpass.dev/REGISTRY in namespace TEAM, and with it secret/pullpass-binding-REGISTRY \
         there\n"
    );
    team.unbinding_on_trial_keeps_everything()?;
    let said = team.run("unbind", &team.login.host, &[])?;
    assert_eq!(
        team.plain(&said.stderr),
        "Waiting until secret/pullpass-binding-REGISTRY in namespace TEAM is gone\n"
    );
    let gone = "REGISTRY.azurecr.io is unbound from namespace TEAM: its pull secret is gone.\n";
    assert_eq!(
        team.plain(&said.ok()?),
        format!("acrpullbinding.pullpass.dev/REGISTRY deleted\n{gone}")
    );
    assert_eq!(team.world.secret(&team.namespace, &secret)?, None);
    assert_eq!(team.objects("role,rolebinding")?, GRANT);
    let [role, binding] = GRANT;
    let said = team.run("unbind", "second", &["--dry-run"])?.ok()?;
    let expected = format!(
        "would delete {binding} in namespace TEAM\nwould delete {role} in namespace TEAM\nwould delete acr"
    );
    assert!(team.plain(&said).starts_with(&expected), "{said}");
    assert_eq!(team.objects("role,rolebinding")?, GRANT);
    team.withdrawing_on_trial_keeps_everything()?;
    let said = team.run("unbind", "second", &[])?.ok()?;
    assert!(
        said.starts_with(&format!(
            "{binding} deleted\n{role} deleted\nacrpullbinding.pullpass.dev/second deleted\n"
        )),
        "{said}"
    );
    assert_eq!(team.objects("role,rolebinding,acrpullbinding")?, [""; 0]);
    let unbound = "REGISTRY is not bound to namespace TEAM.\n";
    let again = team.run("unbind", &team.login.name, &[])?.ok()?;
    assert_eq!(team.plain(&again), unbound);
    for output in ["json", "yaml", "name"] {
        let again = team.run("unbind", &team.login.name, &["--output", output])?;
        assert_eq!(team.plain(&again.stderr), unbound);
        assert_eq!(again.ok()?, "", "{output}");
    }
    let accounts = team.objects("serviceaccount")?;
    assert!(
        accounts.contains(&"serviceaccount/puller".to_owned()),
        "{accounts:?}"
    );
    Ok(())
}

#[test]
fn the_trust_that_is_missing_is_said_with_the_issuer() -> Test {
    let team = Team::new()?;
    let said = team
        .bind(&[&team.create()[..], &["--timeout=20"]].concat())?
        .failed(1)?;
    let said = team.plain(&said);
    let issuer = team.world.cluster.issuer()?;
    let command = format!(
        "az identity federated-credential create --name pullpass-TEAM-puller --identity-name IDENTITY --resource-group GROUP \
         --issuer {issuer} --subject system:serviceaccount:TEAM:puller --audiences api://AzureADTokenExchange"
    );
    assert!(said.contains(&command), "{said}");
    assert!(
        said.contains("pullpass: REGISTRY.azurecr.io is bound to namespace TEAM, but not ready after 20 s: EntraRejected: "),
        "{said}"
    );
    let without = team.bind(&["--no-wait"])?;
    assert!(team.plain(&without.stderr).contains(&command), "{without:?}");
    without.ok()?;
    // What was said helps.
    team.trust()?;
    let ready = team.bind(&["--timeout=600"])?.ok()?;
    assert!(team.plain(&ready).ends_with(READY), "{ready}");
    Ok(())
}

#[test]
fn objects_of_a_dry_run_can_be_applied() -> Test {
    let team = Team::new()?;
    team.trust()?;
    let printed = team.bind(&[&team.create()[..], &["--dry-run", "--output=yaml"]].concat())?;
    assert!(
        team.plain(&printed.stderr).starts_with(
            "pullpass: the identity has to trust the ServiceAccount; ISSUER is what `kubectl get --raw \
             /.well-known/openid-configuration` calls issuer:\n  az identity federated-credential create "
        ),
        "{printed:?}"
    );
    let yaml = printed.ok()?;
    assert_eq!(team.plain(&yaml), DRY_RUN);
    let tried = team
        .bind(&[&team.create()[..], &["--dry-run=server"]].concat())?
        .ok()?;
    assert_eq!(tried.matches(" created (server dry run)\n").count(), 4, "{tried}");
    assert_eq!(team.objects("role,rolebinding,acrpullbinding")?, [""; 0]);
    team.world.cluster.apply(&yaml)?;
    let bound = team.bind(&[])?.ok()?;
    assert!(team.plain(&bound).ends_with(READY), "{bound}");
    // What somebody else wrote stays.
    team.run("unbind", &team.login.name, &[])?.ok()?;
    assert_eq!(team.objects("role,rolebinding")?, GRANT);
    Ok(())
}

const DRY_RUN: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata:
  annotations:
    azure.workload.identity/client-id: CLIENT
    azure.workload.identity/tenant-id: TENANT
  name: puller
  namespace: TEAM
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: pullpass-puller
  namespace: TEAM
rules:
- apiGroups:
  - \"\"
  resourceNames:
  - puller
  resources:
  - serviceaccounts/token
  verbs:
  - create
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: pullpass-puller
  namespace: TEAM
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: pullpass-puller
subjects:
- kind: ServiceAccount
  name: pullpass
  namespace: pullpass-system
---
apiVersion: pullpass.dev/v1alpha1
kind: AcrPullBinding
metadata:
  name: REGISTRY
  namespace: TEAM
spec:
  loginServer: REGISTRY.azurecr.io
  serviceAccountName: puller
";

#[test]
fn without_a_cluster_a_dry_run_says_what_is_written() -> Test {
    let mut command = pullpass();
    command.args([
        "bind",
        "myregistry.azurecr.cn",
        "--namespace=shop",
        "--service-account=puller",
        "--repository=shop/app",
        "--dry-run",
        "--kubeconfig=nowhere",
    ]);
    let ran = finish(command, "")?;
    assert!(
        ran.stderr
            .contains("nothing was written, and no cluster was asked")
            && ran.stderr.contains(
                "--subject system:serviceaccount:shop:puller --audiences api://AzureADTokenExchangeChina"
            ),
        "{ran:?}"
    );
    let lines = GRANT
        .into_iter()
        .chain(["acrpullbinding.pullpass.dev/myregistry"]);
    let lines = lines.map(|name| format!("would write {name} in namespace shop\n"));
    let expected = lines.collect::<Vec<_>>().concat();
    assert_eq!(ran.ok()?, expected);
    Ok(())
}

#[test]
fn objects_of_others_are_not_changed() -> Test {
    let team = Team::new()?;
    let said = team.bind(&[])?.failed(1)?;
    assert!(
        team.plain(&said).starts_with(
            "pullpass: there is no ServiceAccount puller in namespace TEAM: add --create --client-id CLIENT-ID"
        ),
        "{said}"
    );
    let account = |annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "puller", "namespace": team.namespace, "annotations": annotations},
        })
    };
    team.world.cluster.apply(&account(json!({})).to_string())?;
    let said = team.bind(&[])?.failed(1)?;
    assert!(said.contains("does not name its identity"), "{said}");
    let other = json!({"azure.workload.identity/client-id": "other"});
    team.world.cluster.apply(&account(other).to_string())?;
    let said = team.bind(&team.create())?.failed(1)?;
    assert!(
        said.contains("its annotation azure.workload.identity/client-id is other"),
        "{said}"
    );
    let role = [
        "create",
        "role",
        "pullpass-puller",
        "--verb=get",
        "--resource=pods",
        "--namespace",
        &team.namespace,
    ];
    team.world.cluster.run(&role)?;
    let said = team.bind(&[])?.failed(1)?;
    assert!(
        team.plain(&said).contains(
            "Role pullpass-puller in namespace TEAM exists, differs from what pullpass bind writes"
        ),
        "{said}"
    );
    assert_eq!(team.objects("acrpullbinding")?, [""; 0]);

    // One for another registry is kept.
    team.world.cluster.run(&[
        "delete",
        "role",
        "pullpass-puller",
        "--namespace",
        &team.namespace,
    ])?;
    team.bind(&["--no-wait"])?.ok()?;
    let other = team.world.login()?;
    let flags = ["--service-account=puller", "--name", &team.login.name];
    let said = team.run("bind", &other.name, &flags)?.failed(2)?;
    assert!(said.contains("exists for another registry"), "{said}");
    Ok(())
}

#[test]
fn additions_of_others_to_the_grant_are_kept() -> Test {
    let team = Team::new()?;
    team.trust()?;
    team.bind(&team.create())?.ok()?;
    let in_team = ["--namespace", &team.namespace];
    let patch = |kind: &str, path: &str, value: Value| {
        let patch = json!([{"op": "add", "path": path, "value": value}]).to_string();
        let words = ["patch", kind, "pullpass-puller", "--type=json", "--patch", &patch];
        team.world.cluster.run(&[&words[..], &in_team].concat())
    };
    let jane = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"});
    patch("rolebinding", "/subjects/-", jane)?;
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    patch("role", "/rules/-", pods)?;
    // It grants what is needed, and more.
    let again = team.bind(&[])?.ok()?;
    assert!(
        again.contains("role.rbac.authorization.k8s.io/pullpass-puller unchanged"),
        "{again}"
    );
    let unbound = team.run("unbind", &team.login.name, &[])?;
    assert_eq!(unbound.code, Some(0), "{unbound:?}");
    assert_eq!(team.objects("role,rolebinding")?, GRANT);
    for kind in ["role", "rolebinding"] {
        let edit = format!("`kubectl edit {kind} pullpass-puller --namespace TEAM`");
        assert!(team.plain(&unbound.stderr).contains(&edit), "{unbound:?}");
    }

    // What is there then is somebody else's as well, and is not overwritten.
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]);
    patch("rolebinding", "/subjects", subjects)?;
    let said = team.bind(&[])?.failed(1)?;
    assert!(said.contains("differs from what pullpass bind writes"), "{said}");
    Ok(())
}

#[test]
fn binding_again_waits_for_the_identity_that_it_wrote() -> Test {
    let team = Team::new()?;
    team.trust()?;
    team.bind(&team.create())?.ok()?;
    let in_team = ["--namespace", &team.namespace];
    let binding = || {
        let get = ["acrpullbinding", &team.login.name, "--namespace", &team.namespace];
        team.world.cluster.get_json(&get)
    };
    let issued_at = |object: &Value| text(object, "/status/credential/issuedAt").to_owned();
    let before = binding()?;
    // Another identity, which the registry knows nothing of, in place of the first one: the AcrPullBinding stays as it is.
    let delete = ["delete", "serviceaccount", "puller"];
    team.world.cluster.run(&[&delete[..], &in_team].concat())?;
    let other = team.world.login()?;
    let flags = [
        "--create",
        "--client-id",
        &other.client,
        "--tenant-id",
        &other.tenant,
        "--timeout=20",
    ];
    let said = team.bind(&flags)?.failed(1)?;
    assert!(said.contains("EntraRejected"), "{said}");
    assert_eq!(issued_at(&binding()?), issued_at(&before));
    Ok(())
}

#[test]
fn another_service_account_takes_the_grant_with_it() -> Test {
    let team = Team::new()?;
    team.bind(&[&team.create()[..], &["--no-wait"]].concat())?.ok()?;
    let flags = [&["--service-account=other", "--no-wait"], &team.create()[..]].concat();
    let said = team.run("bind", &team.login.name, &flags)?.ok()?;
    assert_eq!(
        team.plain(&said),
        "serviceaccount/other created\n\
         role.rbac.authorization.k8s.io/pullpass-other created\n\
         rolebinding.rbac.authorization.k8s.io/pullpass-other created\n\
         acrpullbinding.pullpass.dev/REGISTRY configured\n\
         rolebinding.rbac.authorization.k8s.io/pullpass-puller deleted\n\
         role.rbac.authorization.k8s.io/pullpass-puller deleted\n"
    );
    Ok(())
}

#[test]
fn the_owner_of_a_namespace_needs_no_other_rights() -> Test {
    let team = Team::new()?;
    team.trust()?;
    let cluster = team.world.cluster;
    let in_team = ["--namespace", &team.namespace];
    cluster.run(&[&["create", "serviceaccount", "owner"], &in_team[..]].concat())?;
    let kubeconfig = cluster.service_account_kubeconfig(&team.namespace, "owner")?;
    let subject = format!("--serviceaccount={}:owner", team.namespace);
    let flags = [&["--service-account=puller"], &team.create()[..]].concat();
    let bind = || team.run_as(&kubeconfig, "bind", &team.login.name, &flags);
    let grant = |role: &str| {
        let clusterrole = format!("--clusterrole={role}");
        cluster.run(
            &[
                &["create", "rolebinding", role, &clusterrole, &subject],
                &in_team[..],
            ]
            .concat(),
        )
    };
    let told = |says: &str| {
        wait_for(says, SOON, || {
            let said = bind()
                .and_then(|ran| ran.failed(1))
                .map_err(|error| error.to_string())?;
            if said.contains(says) { Ok(()) } else { Err(said) }
        })
    };
    told("ClusterRole pullpass-edit in namespace")?;
    grant("pullpass-edit")?;
    told("ClusterRole admin in namespace")?;
    grant("admin")?;
    let bound = wait_for("the binding", SOON, || {
        bind().and_then(Ran::ok).map_err(|error| error.to_string())
    })?;
    assert!(team.plain(&bound).ends_with(READY), "{bound}");
    let said = team.run_as(&kubeconfig, "unbind", &team.login.name, &[])?.ok()?;
    assert!(said.contains("its pull secret is gone"), "{said}");
    Ok(())
}

#[test]
fn clusters_without_the_component_are_told_so() -> Test {
    let world = shared()?;
    let bind = [
        "bind",
        "myregistry",
        "--service-account=puller",
        "--namespace=default",
    ];
    let unbind = ["unbind", "myregistry", "--namespace=default"];
    for words in [&bind[..], &unbind] {
        let said = run(world.cluster.kubeconfig(), words)?.failed(1)?;
        assert!(said.contains("component bindings"), "{words:?}: {said}");
    }
    let team = Team::new()?;
    let nowhere = [
        "bind",
        "myregistry",
        "--service-account=default",
        "--namespace=nowhere",
    ];
    let create = ["--create", "--client-id=CLIENT"];
    let words = [&nowhere[..], &create].concat();
    let said = run(team.world.cluster.kubeconfig(), &words)?.failed(1)?;
    assert!(said.contains("there is no namespace nowhere"), "{said}");
    Ok(())
}

#[test]
fn a_context_names_the_namespace() -> Test {
    let team = Team::new()?;
    let kubeconfig = team.world.azure.directory().join("with-namespace");
    let text_of = std::fs::read_to_string(team.world.cluster.kubeconfig())?;
    std::fs::write(&kubeconfig, text_of)?;
    let mut command = team.world.cluster.kubectl_as(&kubeconfig);
    command.args([
        "config",
        "set-context",
        "--current",
        "--namespace",
        &team.namespace,
    ]);
    assert!(command.output()?.status.success());
    let flags = ["--service-account=puller", "--no-wait", "--output=json"];
    let words = [&["bind", &team.login.name], &flags[..], &team.create()[..]].concat();
    let object: Value = serde_json::from_str(&run(&kubeconfig, &words)?.ok()?)?;
    assert_eq!(text(&object, "/metadata/namespace"), team.namespace);
    Ok(())
}

#[test]
fn a_binding_is_checked_as_its_service_account() -> Test {
    let team = Team::new()?;
    let (world, login) = (team.world, &team.login);
    world.azure.push_image(login, "app")?;
    team.bind(&[&team.create()[..], &["--no-wait"]].concat())?.ok()?;
    let azure = world.azure.flags();
    let flags: Vec<&str> = azure
        .iter()
        .map(String::as_str)
        .chain(["--repository=app"])
        .collect();
    let check = |kubeconfig: &Path| team.run_as(kubeconfig, "check", &login.name, &flags);
    let admin = world.cluster.kubeconfig();
    let failed = check(admin)?;
    let said = team.plain(&failed.stdout);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for part in [
        "REGISTRY.azurecr.io (AcrPullBinding REGISTRY in namespace TEAM) as application CLIENT of tenant TENANT",
        "AADSTS700211",
        "--subject system:serviceaccount:TEAM:puller",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let in_cluster = |kubeconfig: &Path| {
        let registry = team.login.name.as_str();
        team.run_as(kubeconfig, "check", registry, &["--in-cluster"])
    };
    let told = wait_for("what pullpass says", SOON, || {
        let ran = in_cluster(admin).map_err(|error| error.to_string())?;
        let said = team.plain(&ran.stdout);
        let is_told = said.contains("AADSTS700211") && said.contains("Events:");
        if is_told && ran.code == Some(1) {
            Ok(said)
        } else {
            Err(format!("{ran:?}"))
        }
    })?;
    let headline =
        "AcrPullBinding REGISTRY in namespace TEAM (REGISTRY.azurecr.io), as the running pullpass sees it\n";
    assert!(told.starts_with(headline), "{told}");
    team.trust()?;
    let well = check(admin)?;
    assert_eq!(well.code, Some(0), "{well:?}");
    team.bind(&[])?.ok()?;
    let well = in_cluster(admin)?.ok()?;
    assert!(team.plain(&well).contains("in namespace TEAM"), "{well}");

    // One who may read it and may not have the tokens.
    let in_team = ["--namespace", &team.namespace];
    world
        .cluster
        .run(&[&["create", "serviceaccount", "reader"], &in_team[..]].concat())?;
    let kubeconfig = world
        .cluster
        .service_account_kubeconfig(&team.namespace, "reader")?;
    let subject = format!("--serviceaccount={}:reader", team.namespace);
    let grant = ["create", "rolebinding", "reader", "--clusterrole=view", &subject];
    world.cluster.run(&[&grant[..], &in_team].concat())?;
    wait_for("the right to be known", SOON, || {
        let ran = check(&kubeconfig).map_err(|error| error.to_string())?;
        if ran
            .stdout
            .contains("you may not request tokens of the ServiceAccount")
        {
            Ok(())
        } else {
            Err(format!("{ran:?}"))
        }
    })?;
    // The status is enough.
    let well = in_cluster(&kubeconfig)?.ok()?;
    assert!(team.plain(&well).contains("by the status"), "{well}");
    let other = team.run("check", "otherregistry", &[])?.failed(2)?;
    assert!(other.contains("no AcrPullBinding of namespace"), "{other}");
    Ok(())
}
