//! What surrounds every page: head, navigation, warnings, dialog, foot.

use crate::admin::access::Caller;
use crate::admin::assets::{self, SCRIPT, STYLE};
use crate::admin::events::View;
use crate::admin::live::Picture;
use crate::admin::state::Admin;
use crate::options::VERSION;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, VARY};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

/// A page as its maker sees it.
pub(super) struct Page<'a> {
    /// What the window is called.
    pub(super) title: &'a str,
    /// The entry of the navigation it belongs to.
    pub(super) section: Section,
    /// What keeps it up to date, if anything does, and what it was made of.
    pub(super) live: Option<(View, &'a Picture)>,
    pub(super) warnings: &'a [String],
    pub(super) content: Markup,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Topics,
    Nodes,
    Counter,
    Lookup,
}

const SECTIONS: [(Section, &str, &str); 4] = [
    (Section::Topics, "/", "Topics"),
    (Section::Nodes, "/nodes", "Nodes"),
    (Section::Counter, "/counter", "Counter"),
    (Section::Lookup, "/lookup", "Lookup"),
];

/// Who looks, and how they like it.
pub(super) struct Reader {
    pub(super) caller: Caller,
    /// `light` or `dark`, if they have said so.
    theme: Option<&'static str>,
}

impl Reader {
    pub(super) fn of(caller: Caller, headers: &HeaderMap) -> Self {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|cookies| cookies.split(';'));
        let theme = cookies.find_map(|cookie| match cookie.trim() {
            "nsqadmin_theme=dark" => Some("dark"),
            "nsqadmin_theme=light" => Some("light"),
            _ => None,
        });
        Self { caller, theme }
    }

    pub(super) fn may_operate(&self) -> bool {
        self.caller.may_operate()
    }
}

/// Makes a whole document of a page.
pub(super) fn document(admin: &Admin, reader: &Reader, page: &Page<'_>) -> Response {
    let live = page.live.as_ref();
    let query = live.map(|(view, _)| admin.path(&format!("/live?{}", view.query())));
    let count = live.map(|(view, picture)| view.count_in(picture));
    let document = html! {
        (DOCTYPE)
        html lang="en" data-theme=[reader.theme] {
            (head(admin, page.title))
            body data-base=(admin.path("")) data-live=[query] data-count=[count] {
                a.skip href="#main" { "Skip to content" }
                (banner(admin, page.section))
                main #main tabindex="-1" {
                    (warnings(page.warnings))
                    (page.content)
                }
                footer {
                    span { "nsqadmin " (VERSION) }
                    @if !reader.caller.name.is_empty() {
                        span { "Signed in as " (reader.caller.name) }
                    }
                    @if !reader.may_operate() { span { "Read only" } }
                }
                (dialog())
                p #outcome role="status" aria-live="polite" {}
                noscript { p.hint { "Without JavaScript numbers stand still, and nothing acts." } }
            }
        }
    };
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let fresh = HeaderValue::from_static("no-store");
    let vary = HeaderValue::from_static("Cookie");
    let headers = [(CONTENT_TYPE, html), (CACHE_CONTROL, fresh), (VARY, vary)];
    (headers, document.into_string()).into_response()
}

fn head(admin: &Admin, title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " – nsqadmin" }
            link rel="icon" type="image/svg+xml" href=(admin.path("/static/icon.svg"));
            link rel="stylesheet" href=(assets::address(admin, STYLE));
            script type="module" src=(assets::address(admin, SCRIPT)) {}
        }
    }
}

fn banner(admin: &Admin, section: Section) -> Markup {
    let current = |known: Section| (known == section).then_some("page");
    html! {
        header.banner {
            a.brand href=(admin.path("/")) { "nsq" b { "admin" } }
            nav aria-label="Main" {
                @for (known, path, name) in SECTIONS {
                    a href=(admin.path(path)) aria-current=[current(known)] { (name) }
                }
            }
            p.pulse #pulse role="status" { }
            button #theme type="button" aria-label="Switch between light and dark" { "◐" }
        }
    }
}

/// What could not be asked, one line for each.
pub(super) fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            div.warnings role="alert" {
                h2 { "Not all of the cluster has answered" }
                ul { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

/// Asks before anything that cannot be undone; the module fills it in.
fn dialog() -> Markup {
    html! {
        dialog #confirm aria-labelledby="confirm-title" aria-describedby="confirm-text" {
            form method="dialog" {
                h2 #confirm-title {}
                p #confirm-text {}
                p #confirm-typed hidden {
                    label for="confirm-name" { "Type " code #confirm-expected {} " to go on" }
                    input #confirm-name type="text" autocomplete="off" spellcheck="false";
                }
                p.error #confirm-error role="alert" hidden {}
                div.buttons {
                    button value="cancel" type="submit" formnovalidate { "Cancel" }
                    button #confirm-do value="do" type="submit" {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_escaped() {
        let text = "Get \"http://h:1/<b>\": connection refused";
        let markup = warnings(&[text.to_owned()]).into_string();
        let expected = "<li>Get &quot;http://h:1/&lt;b&gt;&quot;: connection refused</li>";
        assert!(markup.contains(expected), "{markup}");
        assert_eq!(warnings(&[]).into_string(), "");
    }
}
