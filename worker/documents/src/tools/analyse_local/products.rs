//! Lines that offer a product.
//!
//! An offer is a line with a name and a price, or with a name and an article number that is called so. In a table
//! whose head names the price column, a bare amount is a price too. Sheets that state one fact per line (`Price: …`,
//! `SKU: …`) are one offer per paragraph.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::super::error::clean;
use super::{bounded, money, pattern, words};

/// Most lines of one text.
pub const LINES_MAX: usize = 500;

/// Longest name in characters, and most words: longer ones are sentences.
const NAME_CHARS_MAX: usize = 120;
const NAME_WORDS_MAX: usize = 14;

/// So many words without a subject of their own make a sentence: "has decided that it will".
const NAME_STOP_WORDS: usize = 2;

/// Longest line that can be an offer, in characters: a row of a table with a description.
const LINE_CHARS_MAX: usize = 300;

/// One offer. Numbers are decimal digits with a point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductLine {
    /// What is offered; never empty.
    pub name: String,
    /// Article number as written.
    pub sku: Option<String>,
    /// Price of it, such as `12.50`.
    pub price: Option<String>,
    /// ISO 4217 code of the price, if the text names one.
    pub currency: Option<String>,
    /// How much one gets for the price, such as `100`.
    pub quantity: Option<String>,
    /// Unit of the quantity, such as `pcs` or `kg`.
    pub unit: Option<String>,
    /// Measures as written, such as `20 x 30 cm`.
    pub size: Option<String>,
    /// The line that says so.
    pub evidence_line: String,
    /// Number of that line in the text, from 0.
    pub line_number: u32,
}

static SKU_NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:sku|art(?:ikel|icle)?\.?[\s-]?(?:nr|no|nummer|number)?|item\s(?:no|number)|part\s(?:no|number)|p/n|order\s(?:no|code)|best(?:ell)?\.?-?(?:nr|nummer)|ref|model(?:l)?)\.?\s?[:#]\s?(?P<sku>[a-z0-9][a-z0-9./_-]{1,39})",
    )
});

/// Capitals and digits joined: `AB-1234`, `NX2000`, `100-AB`. The caller refuses those that are measures or norms.
static SKU_SHAPED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?:^|[\s\t(\[])(?P<sku>[A-Z0-9]{1,10}(?:[-/._][A-Z0-9]{1,12}){1,4}|[A-Z]{2,6}\d{3,12}[A-Z]{0,3})(?:$|[\s\t,;:)\]])",
    )
});

static SIZE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:M\d{1,2}\s?[x×]\s?\d{1,4}\b|\d+(?:[.,]\d+)?(?:\s?(?:mm|cm|m|in))?\s?[x×]\s?\d+(?:[.,]\d+)?(?:\s?(?:mm|cm|m|in))?(?:\s?[x×]\s?\d+(?:[.,]\d+)?)?\s?(?:mm|cm|m|in|″)?\b)",
    )
});

static QUANTITY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:^|[\s\t(,/])(?P<number>\d+(?:[.,]\d+)?)\s?(?P<unit>pcs|pc|pieces?|stück|stk|pairs?|packs?|sets?|boxes|box|units?|kg|g|mg|l|ml|cl|m²|m2|m³|m3|m|paar|rollen?|rolls?)(?:$|[\s\t.,;)/])",
    )
});

/// A whole word that stands for the price in the head of a table or before an amount.
static PRICE_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:^|[^\p{L}])(?:(?:unit|list|net|einzel|stück|netto|brutto)?\s?-?(?:price|preis)|prix|precio|cost)(?:$|[^\p{L}])",
    )
});

/// The last cell of a row, if it is an amount with two decimals.
static BARE_AMOUNT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"(?:^|[\s\t])(?P<amount>\d{1,3}(?:[.,']\d{3})*[.,]\d{2}|\d{1,7}[.,]\d{2})\s*$")
});

static CURRENCY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"(?:^|[^\p{L}])(US\$|[€$£¥]|EUR|Euro|USD|GBP|CHF|PLN|CZK|SEK|NOK|DKK)(?:$|[^\p{L}])")
});

/// A label at the start of a line of a sheet: it is a fact, and no name.
static LABEL: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"^(?P<label>[\p{L}][\p{L} ./-]{0,30}):\s*(?P<value>.*)$"));

/// Labels whose value is the name of the product.
const NAME_LABELS: [&str; 8] = [
    "product",
    "name",
    "item",
    "article",
    "title",
    "produkt",
    "artikel",
    "bezeichnung",
];

/// What the head of the table says about the rows below it.
#[derive(Clone, Default)]
struct Head {
    is_priced: bool,
    currency: Option<String>,
}

/// The offers of `text` in its order, at most [`LINES_MAX`].
pub fn products(text: &str) -> Vec<ProductLine> {
    let lines = bounded(text).lines().collect::<Vec<_>>();
    let mut found = Vec::new();
    let mut head = Head::default();
    let mut start = 0;
    while start < lines.len() && found.len() < LINES_MAX {
        let end = (start..lines.len())
            .find(|at| lines[*at].trim().is_empty())
            .unwrap_or(lines.len());
        paragraph(&lines, start..end, &mut head, &mut found);
        start = end + 1;
    }
    found.truncate(LINES_MAX);
    found
}

/// The offers of one paragraph: a sheet of labelled facts as a whole, or line by line.
fn paragraph(lines: &[&str], range: Range<usize>, head: &mut Head, found: &mut Vec<ProductLine>) {
    if let Some(product) = sheet(lines, range.clone()) {
        found.push(product);
        return;
    }
    for number in range.clone() {
        let line = lines[number];
        if line.chars().count() > LINE_CHARS_MAX {
            continue;
        }
        if let Some(new_head) = table_head(line) {
            *head = new_head;
        } else if let Some(product) = offer(line, number, head, name_above(lines, &range, number)) {
            found.push(product);
        }
    }
}

/// A paragraph with at least two labelled facts, one of them the price or the article number.
fn sheet(lines: &[&str], range: Range<usize>) -> Option<ProductLine> {
    let label = LABEL.as_ref()?;
    let mut product = ProductLine::default();
    let mut labelled = 0;
    for number in range.clone() {
        let line = lines[number].trim();
        let Some(captures) = label.captures(line) else {
            if product.name.is_empty() && labelled == 0 {
                product.name = tidy_name(line).unwrap_or_default();
            }
            continue;
        };
        labelled += 1;
        let facts = facts(line);
        if (product.price.is_none() && facts.price.is_some())
            || (product.sku.is_none() && facts.sku.is_some())
        {
            product.line_number = number as u32;
            product.evidence_line = clean(line);
        }
        if NAME_LABELS.contains(&captures["label"].to_lowercase().trim()) && facts.sku.is_none() {
            product.name = tidy_name(&captures["value"]).unwrap_or_default();
        }
        fill(&mut product, facts);
    }
    let is_offer = labelled >= 2
        && !product.name.is_empty()
        && (product.price.is_some() || product.sku.is_some());
    is_offer.then_some(product)
}

fn fill(product: &mut ProductLine, facts: ProductLine) {
    if product.price.is_none() {
        (product.price, product.currency) = (facts.price, facts.currency);
    }
    if product.quantity.is_none() {
        (product.quantity, product.unit) = (facts.quantity, facts.unit);
    }
    product.sku = product.sku.take().or(facts.sku);
    product.size = product.size.take().or(facts.size);
}

/// The head of a table of prices: it names the price and states none.
fn table_head(line: &str) -> Option<Head> {
    let is_head = PRICE_WORD.as_ref()?.is_match(line)
        && !line.chars().any(|c| c.is_ascii_digit())
        && !line.ends_with(':');
    is_head.then(|| Head {
        is_priced: true,
        currency: currency_in(line),
    })
}

fn currency_in(line: &str) -> Option<String> {
    let captures = CURRENCY.as_ref()?.captures(line)?;
    money::currency(captures.get(1)?.as_str()).map(str::to_owned)
}

/// The line as an offer, with the name of the line above if it has none itself.
fn offer(
    line: &str,
    number: usize,
    head: &Head,
    name_above: Option<String>,
) -> Option<ProductLine> {
    if is_summing(line) {
        return None;
    }
    let mut product = facts(line);
    let bare = if head.is_priced && product.price.is_none() {
        bare_amount(line)
    } else {
        None
    };
    if let Some((amount, _)) = &bare {
        (product.price, product.currency) = (Some(amount.clone()), head.currency.clone());
    }
    let is_named_sku = SKU_NAMED
        .as_ref()
        .is_some_and(|pattern| pattern.is_match(line));
    if product.price.is_none() && !is_named_sku {
        return None;
    }
    let own_name = name_of(line, bare.map(|(_, place)| place));
    // A line that is a sentence with a price in it is not the price of the heading above it.
    let is_bare_price = line.split_whitespace().count() <= 6;
    product.name = own_name.or(if is_bare_price { name_above } else { None })?;
    product.evidence_line = clean(line);
    product.line_number = number as u32;
    Some(product)
}

/// What the line states beside a name.
fn facts(line: &str) -> ProductLine {
    let mut product = ProductLine::default();
    if let Some(found) = money::find(line).into_iter().next() {
        (product.price, product.currency) = (Some(found.price.amount), Some(found.price.currency));
    }
    product.sku = sku(line).map(|place| line[place].trim_end_matches(['.', '-', '/']).to_owned());
    product.size = first_match(&SIZE, line).map(|place| line[place].trim().to_owned());
    let quantity = QUANTITY.as_ref().and_then(|pattern| pattern.captures(line));
    if let Some(captures) = quantity {
        product.quantity = money::amount(&captures["number"]);
        product.unit = Some(captures["unit"].to_lowercase());
    }
    product
}

fn first_match(pattern: &LazyLock<Option<Regex>>, line: &str) -> Option<Range<usize>> {
    pattern.as_ref()?.find(line).map(|found| found.range())
}

/// The article number: the one that is called so, else the first thing shaped like one.
fn sku(line: &str) -> Option<Range<usize>> {
    let has_digit = |place: &Range<usize>| {
        line[place.clone()]
            .bytes()
            .any(|byte| byte.is_ascii_digit())
    };
    let named = SKU_NAMED
        .as_ref()?
        .captures(line)
        .and_then(|captures| captures.name("sku"))
        .map(|found| found.range());
    if let Some(place) = named.filter(has_digit) {
        return Some(place);
    }
    let shaped = SKU_SHAPED.as_ref()?.captures_iter(line);
    shaped
        .filter_map(|captures| captures.name("sku"))
        .map(|found| found.range())
        .find(|place| is_sku(&line[place.clone()]))
}

/// At least a capital and a digit, four signs, and no norm (`ISO-9001`, `DIN-912`) or date.
fn is_sku(text: &str) -> bool {
    let has_capital = text.bytes().any(|byte| byte.is_ascii_uppercase());
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let is_norm = ["ISO", "DIN", "EN", "IEC", "UTF", "IP", "COVID"]
        .iter()
        .any(|norm| {
            text.strip_prefix(norm)
                .is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_uppercase()))
        });
    text.len() >= 4 && has_capital && has_digit && !is_norm
}

fn bare_amount(line: &str) -> Option<(String, Range<usize>)> {
    let place = BARE_AMOUNT
        .as_ref()?
        .captures(line)?
        .name("amount")?
        .range();
    Some((money::amount(&line[place.clone()])?, place))
}

/// What is left of the line without its facts.
fn name_of(line: &str, bare_amount: Option<Range<usize>>) -> Option<String> {
    let mut taken = money::find(line)
        .iter()
        .map(|found| found.start..found.end)
        .collect::<Vec<_>>();
    taken.extend(bare_amount);
    taken.extend(first_match(&SKU_NAMED, line).or_else(|| sku(line)));
    taken.extend(
        QUANTITY
            .as_ref()
            .and_then(|pattern| pattern.captures(line))
            .and_then(|captures| {
                Some(captures.name("number")?.start()..captures.name("unit")?.end())
            }),
    );
    let mut bytes = String::with_capacity(line.len());
    for (at, c) in line.char_indices() {
        bytes.push(if taken.iter().any(|place| place.contains(&at)) {
            '\t'
        } else {
            c
        });
    }
    // The name is the longest piece with letters: cells and facts part the pieces.
    let pieces = bytes.split('\t').filter_map(tidy_name);
    pieces.max_by_key(|piece| {
        (
            piece.chars().filter(|c| c.is_alphabetic()).count(),
            std::cmp::Reverse(piece.clone()),
        )
    })
}

/// A name without the signs and fillers around it, or `None` if it is none: no letters, a sentence, a bare label.
fn tidy_name(text: &str) -> Option<String> {
    let is_edge = |c: char| c.is_whitespace() || "-–—:;,.|•*·…=@/()[]#\"".contains(c);
    let mut name = text.trim_matches(is_edge);
    if name.contains('@') || stop_words(name) >= NAME_STOP_WORDS {
        return None;
    }
    while let Some(shorter) = FILLERS
        .iter()
        .find_map(|filler| strip_word_end(name, filler))
    {
        name = shorter.trim_end_matches(is_edge);
    }
    let is_name = name.chars().filter(|c| c.is_alphabetic()).count() >= 2
        && name.chars().count() <= NAME_CHARS_MAX
        && name.split_whitespace().count() <= NAME_WORDS_MAX
        && !NOT_NAMES
            .iter()
            .chain(&FILLERS)
            .any(|word| name.to_lowercase() == *word);
    is_name.then(|| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn stop_words(text: &str) -> usize {
    let lower = text.to_lowercase();
    lower
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| words::STOP_WORDS.contains(word))
        .count()
}

/// Words between a name and its price.
const FILLERS: [&str; 16] = [
    "for", "at", "from", "only", "per", "price", "costs", "ab", "nur", "für", "je", "pro", "à",
    "preis", "kostet", "now",
];

/// What is left of lines that state a fact and no name.
const NOT_NAMES: [&str; 14] = [
    "price",
    "preis",
    "prix",
    "precio",
    "unit price",
    "list price",
    "rrp",
    "uvp",
    "sku",
    "each",
    "pro stück",
    "per piece",
    "inkl",
    "incl",
];

fn strip_word_end<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(word.len())?;
    let (before, end) = (text.get(..at)?, text.get(at..)?);
    (end.eq_ignore_ascii_case(word) && before.ends_with(char::is_whitespace)).then_some(before)
}

/// The line above in the same paragraph, if it is a name and states no price itself.
fn name_above(lines: &[&str], range: &Range<usize>, number: usize) -> Option<String> {
    let above = *lines.get(
        number
            .checked_sub(1)
            .filter(|above| range.contains(above))?,
    )?;
    let is_free = money::find(above).is_empty()
        && !above.contains('\t')
        && !is_summing(above)
        && table_head(above).is_none();
    if is_free { tidy_name(above) } else { None }
}

/// Totals, taxes and shipping.
fn is_summing(line: &str) -> bool {
    let lower = line
        .trim_start_matches(|c: char| !c.is_alphabetic())
        .to_lowercase();
    words::SUMMING.iter().any(|word| {
        lower
            .strip_prefix(word)
            .is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
    })
}

#[cfg(test)]
mod tests;
