//! `pullpass audit --output html`: the page, in a real browser.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use pullpass_test_support::{Browser, ControlPlane, Scratch, wait_for};
use serde_json::json;

use crate::audited::cluster;
use crate::world::{SOON, Test};

/// Text that a page must not take for anything else.
const HOSTILE: &str = "</bdi></script><script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">'\u{202e}";
const REFUSED: &str = "Entra ID refuses the identity: AADSTS7000222: The provided client secret keys are expired. What to do: \
                       create another client secret: `az ad app credential reset --id 6a1f0e3c-1111-4a6e-9d3b-7c1c2d3e4f50 \
                       --append --query password --output tsv > password`; give it to pullpass: `pullpass attach contosolegacy \
                       --client-secret-file password`";
const TITLE: &str = "Pull secrets for Azure Container Registry";

/// Somebody who may read what the page is made of, which no Secret is.
fn reader(cluster: &ControlPlane) -> Result<PathBuf, Box<dyn Error>> {
    let roles = format!("{}/manifests/base/people.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.run(&["apply", "--filename", &roles])?;
    cluster.run(&["create", "serviceaccount", "reader", "--namespace=web"])?;
    // The ClusterRole view is filled by a controller that does not run here.
    let resources = "--resource=pods,namespaces,serviceaccounts";
    cluster.run(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get,list,watch",
        resources,
    ])?;
    for role in ["reader", "pullpass-view"] {
        let (binding, role) = (format!("reader-{role}"), format!("--clusterrole={role}"));
        let account = "--serviceaccount=web:reader";
        cluster.run(&["create", "clusterrolebinding", &binding, &role, account])?;
    }
    let may = |verb: &str, what: &str| {
        let may = cluster.may(
            "system:serviceaccount:web:reader",
            verb,
            what,
            &["--all-namespaces"],
        );
        may.map_err(|error| error.to_string())
    };
    wait_for("the roles to be known", SOON, || {
        let is_known = may("list", "pods")? && may("list", "acrregistries.pullpass.dev")?;
        is_known.then_some(()).ok_or_else(|| "not yet".to_owned())
    })?;
    assert!(!may("get", "secrets")?);
    Ok(cluster.service_account_kubeconfig("web", "reader")?)
}

/// Writes the page of a cluster to a file, with the rights of a reader.
fn page(cluster: &ControlPlane, directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(["audit", "--output", "html", "--kubeconfig"])
        .arg(reader(cluster)?)
        .output()?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let file = directory.join("report.html");
    std::fs::write(&file, output.stdout)?;
    Ok(file)
}

fn read(browser: &mut Browser, expression: &str) -> Result<String, Box<dyn Error>> {
    let value = browser.evaluate(expression)?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The cells of the rows that are seen, of one column of the table of namespaces.
fn column(browser: &mut Browser, index: usize) -> Result<String, Box<dyn Error>> {
    let rows = "Array.from(document.querySelectorAll('#coverage tbody tr:not([hidden])'))";
    read(
        browser,
        &format!("{rows}.map((row) => row.cells[{index}].textContent).join(' ')"),
    )
}

/// What others wrote is text; nothing is asked for, and nothing is refused either.
fn assert_nothing_breaks_out(browser: &mut Browser) -> Test {
    assert_eq!(read(browser, "document.title")?, TITLE);
    let elements =
        "['script', 'style', 'img', 'bdi bdi'].map((name) => document.querySelectorAll(name).length).join()";
    assert_eq!(read(browser, elements)?, "1,1,0,0");
    let text = read(browser, "document.querySelector('main').innerText")?;
    assert!(
        text.contains("</script><script>document.title = 'broken'</script><img src=x"),
        "{text}"
    );
    assert!(text.contains("'\\u{202e}"), "{text}");
    let requests: Vec<_> = browser.events("Network.requestWillBeSent").collect();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let complaints: Vec<_> = browser
        .events("Log.entryAdded")
        .chain(browser.events("Runtime.exceptionThrown"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

fn assert_rows_are_searched_and_sorted(browser: &mut Browser) -> Test {
    let all = column(browser, 0)?;
    assert_eq!(all, "edge reports web billing checkout checkout web web");
    browser.evaluate("document.querySelector('#search').focus()")?;
    browser.type_text("Checkout covered")?;
    assert_eq!(column(browser, 0)?, "checkout checkout");
    assert_eq!(
        read(browser, "document.querySelector('output').textContent")?,
        "2 of 8 rows"
    );
    browser.evaluate("document.querySelector('#search').select()")?;
    browser.type_text("nothing of this name")?;
    assert_eq!(column(browser, 0)?, "");
    browser.evaluate("document.querySelector('#search').select()")?;
    browser.type_text(" ")?;
    assert_eq!(column(browser, 0)?, all);

    let heading = |index: usize| format!("document.querySelector('#coverage thead').rows[0].cells[{index}]");
    for (index, order, expected) in [
        (5, "ascending", "1 1 2 2 3 4 9 12"),
        (5, "descending", "12 9 4 3 2 2 1 1"),
        (
            0,
            "ascending",
            "billing checkout checkout edge reports web web web",
        ),
    ] {
        browser.evaluate(&format!("{}.querySelector('button').focus()", heading(index)))?;
        browser.press("Enter")?;
        assert_eq!(column(browser, index)?, expected);
        assert_eq!(read(browser, &format!("{}.ariaSort", heading(index)))?, order);
        assert_eq!(
            read(
                browser,
                "document.querySelectorAll('#coverage [aria-sort]').length"
            )?,
            "1"
        );
    }
    Ok(())
}

/// Everything works with only the keyboard, and is seen when it has the focus.
fn assert_the_keyboard_reaches_everything(browser: &mut Browser, file: &Path) -> Test {
    browser.open(file)?;
    let wanted = read(
        browser,
        "document.querySelectorAll('a, button, input, [tabindex=\"0\"]').length",
    )?
    .parse::<u32>()?;
    browser.press("Tab")?;
    assert_eq!(
        read(browser, "document.activeElement.textContent")?,
        "Skip to what is wrong"
    );
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(read(browser, outline)?, "solid");
    let mut reached = 1;
    while reached < wanted {
        browser.press("Tab")?;
        assert_ne!(
            read(browser, "document.activeElement.tagName")?,
            "BODY",
            "{reached} of {wanted}"
        );
        assert_eq!(read(browser, outline)?, "solid");
        reached += 1;
    }
    browser.open(file)?;
    browser.press("Tab")?;
    browser.press("Enter")?;
    assert_eq!(read(browser, "document.activeElement.id")?, "wrong");
    browser.press("Tab")?;
    browser.press("Enter")?;
    // Whether a browser may write to the clipboard is up to its settings; the command is selected where it may not.
    let said = wait_for("the command", SOON, || {
        let said = read(browser, "document.activeElement.textContent").map_err(|error| error.to_string())?;
        if said == "Copy" { Err(said) } else { Ok(said) }
    })?;
    if said == "Selected" {
        let selected = "getSelection().toString() === document.activeElement.parentNode.querySelector('code').textContent";
        assert_eq!(read(browser, selected)?, "true");
    } else {
        assert_eq!(said, "Copied");
    }
    Ok(())
}

/// Wide, narrow, dark and on paper.
fn assert_it_fits(browser: &mut Browser) -> Test {
    let look = "getComputedStyle(document.body).backgroundColor";
    let media = |media: &str, scheme: &str| json!({"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]});
    for (kind, width) in [("screen", 1280), ("screen", 360), ("print", 718)] {
        browser.resize(width, 900)?;
        browser.call("Emulation.setEmulatedMedia", &media(kind, "light"))?;
        let needs = read(browser, "document.documentElement.scrollWidth")?.parse::<u32>()?;
        assert!(needs <= width, "{kind}: {needs} of {width}");
    }
    assert_eq!(read(browser, look)?, "rgb(255, 255, 255)");
    let seen = "Array.from(document.querySelectorAll('.command button, nav, .search'), (element) => element.checkVisibility()).includes(true)";
    assert_eq!(read(browser, seen)?, "false");
    browser.call("Emulation.setEmulatedMedia", &media("screen", "light"))?;
    let light = read(browser, look)?;
    browser.call("Emulation.setEmulatedMedia", &media("screen", "dark"))?;
    assert_ne!(read(browser, look)?, light);
    Ok(())
}

#[test]
fn the_page_works_in_a_browser_and_trusts_no_text() -> Test {
    let message = format!("{HOSTILE}. What to do: {HOSTILE}: `{HOSTILE}`");
    let scratch = Scratch::new()?;
    let cluster = cluster(&message)?;
    let file = page(&cluster, scratch.path())?;
    let mut browser = Browser::start()?;
    browser.open(&file)?;
    assert_nothing_breaks_out(&mut browser)?;
    assert_rows_are_searched_and_sorted(&mut browser)?;
    assert_the_keyboard_reaches_everything(&mut browser, &file)?;
    assert_it_fits(&mut browser)?;

    // Without scripts there is everything but what scripts do.
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}))?;
    browser.open(&file)?;
    let dead =
        "document.querySelectorAll('button').length + ' ' + document.querySelector('form').checkVisibility()";
    assert_eq!(read(&mut browser, dead)?, "0 false");
    assert_eq!(
        column(&mut browser, 0)?,
        "edge reports web billing checkout checkout web web"
    );
    Ok(())
}

/// `make picture`.
#[test]
#[ignore = "writes docs/audit-page.png"]
fn picture() -> Test {
    let scratch = Scratch::new()?;
    let cluster = cluster(REFUSED)?;
    let file = page(&cluster, scratch.path())?;
    let mut browser = Browser::start()?;
    browser.resize(1100, 1000)?;
    browser.open(&file)?;
    let picture = format!("{}/docs/audit-page.png", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(picture, browser.screenshot()?)?;
    Ok(())
}
