//! A list of many topics: found, sorted and cut into pages here, so that thousands cost a browser
//! nothing.

use crate::admin::figures::Figures;
use crate::client::http::escape;
use crate::http::query::Query;
use crate::limits::{ADMIN_PAGE_ROWS, ADMIN_PAGE_ROWS_MAX};
use maud::{Markup, html};
use std::cmp::Ordering;

/// What the reader has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A part of the name.
    find: String,
    /// A column, or the name.
    sort: String,
    descending: bool,
    /// From 0.
    page: usize,
    rows: usize,
}

impl Wanted {
    pub(super) fn of(query: &Query) -> Self {
        let text = |name: &str| {
            let value = query.value(name).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let number = |name: &str| text(name).parse::<usize>().ok();
        let sort = Some(text("sort")).filter(|sort| !sort.is_empty());
        Self {
            find: text("q").trim().to_owned(),
            sort: sort.unwrap_or_else(|| "name".to_owned()),
            descending: text("dir") == "desc",
            page: number("page").unwrap_or(1).saturating_sub(1),
            rows: number("rows").unwrap_or(ADMIN_PAGE_ROWS).clamp(1, ADMIN_PAGE_ROWS_MAX),
        }
    }

    /// The rows to show, and how many there are of them in all.
    pub(super) fn cut<'a, T>(
        &self,
        rows: impl Iterator<Item = (&'a str, T)>,
        figures: impl Fn(&T) -> &Figures,
    ) -> (Vec<(&'a str, T)>, usize) {
        let find = self.find.to_lowercase();
        let mut rows: Vec<_> =
            rows.filter(|(name, _)| name.to_lowercase().contains(&find)).collect();
        rows.sort_by(|(a, x), (b, y)| {
            let order = match self.sort.as_str() {
                "name" => a.cmp(b),
                column => by_column(column, figures(x), figures(y)),
            };
            let order = if self.descending { order.reverse() } else { order };
            order.then_with(|| a.cmp(b))
        });
        let found = rows.len();
        let from = self.page.saturating_mul(self.rows).min(found);
        let to = from.saturating_add(self.rows).min(found);
        rows.truncate(to);
        (rows.split_off(from), found)
    }

    /// The query for the same with some of it changed.
    fn query(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut other = self.clone();
        change(&mut other);
        let find = escape(other.find.as_bytes(), "+");
        let sort = escape(other.sort.as_bytes(), "+");
        let dir = if other.descending { "desc" } else { "asc" };
        let (page, rows) = (other.page.saturating_add(1), other.rows);
        format!("?q={find}&sort={sort}&dir={dir}&page={page}&rows={rows}")
    }

    /// The field to find something with.
    pub(super) fn field(&self, label: &str) -> Markup {
        html! {
            form.find method="get" role="search" {
                label for="find" { (label) }
                input #find type="search" name="q" value=(self.find) placeholder="Part of a name"
                    autocomplete="off" spellcheck="false" aria-keyshortcuts="/";
                input type="hidden" name="sort" value=(self.sort);
                input type="hidden" name="dir" value=(if self.descending { "desc" } else { "asc" });
            }
        }
    }

    /// The head of a column that can be sorted by: numbers begin with the largest.
    pub(super) fn head(&self, column: &str, label: &str) -> Markup {
        let is_name = column == "name";
        let is_sorted = self.sort == column;
        let order = match (is_sorted, self.descending) {
            (false, _) => None,
            (true, true) => Some("descending"),
            (true, false) => Some("ascending"),
        };
        let query = self.query(|other| {
            column.clone_into(&mut other.sort);
            other.descending = if is_sorted { !self.descending } else { !is_name };
            other.page = 0;
        });
        html! {
            th scope="col" aria-sort=[order] class=[(!is_name).then_some("n")] {
                a.sort href=(query) { (label) }
            }
        }
    }

    /// How much of it is shown, and the way to the rest.
    pub(super) fn pager(&self, shown: usize, found: usize) -> Markup {
        let from = self.page.saturating_mul(self.rows).min(found);
        let pages = found.div_ceil(self.rows).max(1);
        html! {
            nav.pager aria-label="Pages" {
                @if found == 0 { span { "Nothing found" } }
                @else { span { (from + 1) "–" (from + shown) " of " (found) } }
                @if self.page > 0 {
                    a rel="prev" href=(self.query(|other| other.page -= 1)) { "Previous" }
                }
                @if self.page + 1 < pages {
                    a rel="next" href=(self.query(|other| other.page += 1)) { "Next" }
                }
                @if pages > 1 {
                    a href=(self.query(|o| { o.page = 0; o.rows = ADMIN_PAGE_ROWS_MAX; })) { "All" }
                }
            }
        }
    }
}

fn by_column(column: &str, a: &Figures, b: &Figures) -> Ordering {
    let value = |f: &Figures| match column {
        "depth" => f.depth,
        "backlog" => f.backlog,
        "backlog_disk" => f.backlog_disk,
        "in_flight" => f.in_flight,
        "deferred" => f.deferred,
        "messages" => f.messages,
        "requeues" => f.requeues,
        "timeouts" => f.timeouts,
        "clients" => f.clients,
        "channels" => f.channels,
        "log" => f.log_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        _ => 0,
    };
    let fraction = |f: &Figures| match column {
        "rate" => f.rate.unwrap_or(-1.0),
        "latency" => f.latency_ns.unwrap_or(-1.0),
        _ => 0.0,
    };
    value(a).cmp(&value(b)).then_with(|| fraction(a).total_cmp(&fraction(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Uri;

    fn wanted(uri: &'static str) -> Wanted {
        Wanted::of(&Query::of(&Uri::from_static(uri)).unwrap())
    }

    fn names(uri: &'static str) -> (Vec<String>, usize) {
        let rows: Vec<(String, Figures)> = (0..10)
            .map(|n| (format!("t{n}"), Figures { backlog: n % 3, ..Figures::default() }))
            .collect();
        let all = rows.iter().map(|(name, figures)| (name.as_str(), figures));
        let (rows, found) = wanted(uri).cut(all, |figures| figures);
        (rows.into_iter().map(|(name, _)| name.to_owned()).collect(), found)
    }

    #[test]
    fn rows_are_found_sorted_and_cut() {
        assert_eq!(names("/?rows=2"), (vec!["t0".into(), "t1".into()], 10));
        assert_eq!(names("/?q=T7"), (vec!["t7".into()], 1));
        assert_eq!(names("/?q=x"), (vec![], 0));
        let largest = names("/?sort=backlog&dir=desc&rows=4").0;
        assert_eq!(largest, ["t2", "t5", "t8", "t1"]);
        assert_eq!(names("/?rows=4&page=3").0, ["t8", "t9"]);
        assert_eq!(names("/?rows=4&page=99").0, [""; 0]);
        assert_eq!(names("/?rows=0&page=18446744073709551615").0, [""; 0]);
    }

    #[test]
    fn what_was_asked_for_stays_in_links() {
        let wanted = wanted("/?q=a%26b&sort=rate&dir=desc&page=2&rows=5");
        let query = wanted.query(|other| other.page += 1);
        assert_eq!(query, "?q=a%26b&sort=rate&dir=desc&page=3&rows=5");
        let head = wanted.head("rate", "Rate").into_string();
        assert!(head.contains("aria-sort=\"descending\"") && head.contains("dir=asc"), "{head}");
        let field = Wanted { find: "\"><b>".to_owned(), ..wanted }.field("x").into_string();
        assert!(field.contains("value=\"&quot;&gt;&lt;b&gt;\""), "{field}");
    }
}
