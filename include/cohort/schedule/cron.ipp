// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "cron.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <system_error>

#include <fmt/format.h>
#include <time.h>

namespace cohort {

namespace detail {

COHORT_INLINE std::uint64_t cron_field::parse(std::string_view text) const {
  std::uint64_t values = 0;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(',', begin), text.size());
    values |= item(text.substr(begin, end - begin), text);
    begin = end + 1;
  }
  return values;
}

COHORT_INLINE void cron_field::fail(std::string_view text, std::string_view why) const {
  throw_error(fmt::format("cron: {} \"{}\": {}", name, text, why), errc::invalid_option);
}

COHORT_INLINE std::uint64_t cron_field::item(std::string_view one, std::string_view text) const {
  const auto slash = one.find('/');
  const auto range = one.substr(0, slash);
  const auto dash = range.find('-');
  unsigned from = first, to = last;
  if (range != "*") {
    from = to = value(range.substr(0, dash), text);
    if (dash != range.npos) {
      const auto end = range.substr(dash + 1);
      to = value(end, text);
      if (to == 0 && from > 0 && last == 7 && end.front() > '9') to = 7;  // FRI-SUN
    } else if (slash != one.npos) {
      fail(text, "a step needs * or a range before it");
    }
  }
  if (to < from) fail(text, "a range that ends before it begins");
  unsigned step = 1;
  if (slash != one.npos) {
    step = number(one.substr(slash + 1), text);
    if (step == 0 || step > last) fail(text, fmt::format("a step is 1 to {}", last));
  }
  std::uint64_t values = 0;
  for (unsigned each = from; each <= to; each += step) values |= std::uint64_t{1} << each;
  return values;
}

COHORT_INLINE unsigned cron_field::value(std::string_view one, std::string_view text) const {
  if (one.size() == 3) {
    for (std::size_t at = 0; at < names.size(); at += 3) {
      if (equal(one, names.substr(at, 3))) return first + static_cast<unsigned>(at / 3);
    }
  }
  const auto parsed = number(one, text);
  if (parsed < first || parsed > last) fail(text, fmt::format("not in {} to {}", first, last));
  return parsed;
}

COHORT_INLINE unsigned cron_field::number(std::string_view digits, std::string_view text) const {
  unsigned parsed = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), parsed);
  if (error == std::errc::result_out_of_range) fail(text, "a number too large");
  if (error != std::errc() || end != digits.data() + digits.size()) {
    fail(text, digits.empty() ? "a value is missing" : fmt::format("\"{}\" is no value of it", digits));
  }
  return parsed;
}

COHORT_INLINE bool cron_field::equal(std::string_view text, std::string_view name_in_capitals) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char capital = text[i] >= 'a' && text[i] <= 'z' ? static_cast<char>(text[i] - 'a' + 'A') : text[i];
    if (capital != name_in_capitals[i]) return false;
  }
  return true;
}

COHORT_INLINE local_zone::seconds local_zone::offset_at(sys_seconds time) {
  const time_t since_epoch = time.time_since_epoch().count();
  struct tm fields;
  if (::localtime_r(&since_epoch, &fields) == nullptr) throw_error("cron: localtime_r", errno);
  return seconds(fields.tm_gmtoff);
}

COHORT_INLINE local_zone::local_seconds local_zone::local(sys_seconds time, seconds offset) noexcept {
  return local_seconds((time + offset).time_since_epoch());
}

COHORT_INLINE local_zone::sys_seconds local_zone::utc(local_seconds time, seconds offset) noexcept {
  return sys_seconds(time.time_since_epoch() - offset);
}

COHORT_INLINE local_zone::sys_seconds local_zone::change_between(sys_seconds before, sys_seconds after) {
  const auto offset = offset_at(before);
  while (after - before > seconds(1)) {
    const auto middle = before + (after - before) / 2;
    (offset_at(middle) == offset ? before : after) = middle;
  }
  return after;
}

COHORT_INLINE local_zone::sys_seconds local_zone::first_moment_of(local_seconds time) {
  // No offset is as much as a day, and no two changes are as close to each other as two days.
  const auto day_before = utc(time, std::chrono::days(1)), day_after = utc(time, -std::chrono::days(1));
  const auto old_offset = offset_at(day_before), new_offset = offset_at(day_after);
  const auto by_old = utc(time, old_offset), by_new = utc(time, new_offset);
  if (old_offset == new_offset || offset_at(by_old) == old_offset) return by_old;
  if (offset_at(by_new) == new_offset) return by_new;
  return change_between(day_before, day_after);
}

}  // namespace detail

COHORT_INLINE cron::cron(std::string_view expression) : text_(expression) {
  auto fields = split(alias(expression));
  if (fields.size() == 5) fields.insert(fields.begin(), "0");
  if (fields.size() != 6) {
    throw_error(fmt::format("cron: \"{}\": {} fields, not 5 or 6", expression, fields.size()), errc::invalid_option);
  }
  seconds_ = detail::cron_second.parse(fields[0]);
  minutes_ = detail::cron_minute.parse(fields[1]);
  hours_ = detail::cron_hour.parse(fields[2]);
  days_ = detail::cron_day.parse(fields[3]);
  months_ = detail::cron_month.parse(fields[4]);
  weekdays_ = detail::cron_weekday.parse(fields[5]);
  if (weekdays_ >> 7) weekdays_ |= 1;
  either_day_ = fields[3].front() != '*' && fields[5].front() != '*';
  if (!either_day_ && std::countr_zero(days_) > longest_month()) {
    detail::cron_day.fail(fields[3], fmt::format("not in month \"{}\"", fields[4]));
  }
}

COHORT_INLINE std::chrono::sys_seconds cron::next_after(std::chrono::system_clock::time_point time,
                                                        time_zone zone) const {
  const auto after = std::chrono::floor<std::chrono::seconds>(time);
  if (zone == time_zone::utc) return local::utc(next_match(local::local(after, {})), {});
  return hours_ == detail::cron_hour.all() ? next_by_hours(after) : next_by_clock(after);
}

COHORT_INLINE std::string_view cron::alias(std::string_view expression) {
  struct entry {
    std::string_view name, fields;
  };
  static constexpr std::array<entry, 7> aliases{{
      {"@yearly", "0 0 1 1 *"},
      {"@annually", "0 0 1 1 *"},
      {"@monthly", "0 0 1 * *"},
      {"@weekly", "0 0 * * 0"},
      {"@daily", "0 0 * * *"},
      {"@midnight", "0 0 * * *"},
      {"@hourly", "0 * * * *"},
  }};
  if (!expression.starts_with('@')) return expression;
  for (const auto& each : aliases) {
    if (each.name == expression) return each.fields;
  }
  throw_error(fmt::format("cron: \"{}\": unknown name", expression), errc::invalid_option);
}

COHORT_INLINE std::vector<std::string_view> cron::split(std::string_view expression) {
  constexpr std::string_view blanks = " \t";
  std::vector<std::string_view> fields;
  for (std::size_t at = 0; (at = expression.find_first_not_of(blanks, at)) != expression.npos;) {
    const auto end = std::min(expression.find_first_of(blanks, at), expression.size());
    fields.push_back(expression.substr(at, end - at));
    at = end;
  }
  return fields;
}

COHORT_INLINE int cron::longest_month() const noexcept {
  constexpr std::uint64_t of_31 = 0b1'0101'1010'1010, of_30 = 0b0'1010'0101'0000;
  return (months_ & of_31) != 0 ? 31 : (months_ & of_30) != 0 ? 30 : 29;
}

COHORT_INLINE bool cron::has_day(std::chrono::local_days day, std::chrono::year_month_day date) const noexcept {
  const bool in_month = has(days_, static_cast<unsigned>(date.day()));
  const bool in_week = has(weekdays_, std::chrono::weekday(day).c_encoding());
  return either_day_ ? in_month || in_week : in_month && in_week;
}

COHORT_INLINE unsigned cron::first_from(std::uint64_t set, unsigned least) noexcept {
  return static_cast<unsigned>(std::countr_zero(least < 64 ? set >> least << least : 0));
}

COHORT_INLINE std::chrono::seconds cron::time_from(std::chrono::seconds least) const noexcept {
  const auto count = static_cast<unsigned>(least.count());
  const unsigned first_second = static_cast<unsigned>(std::countr_zero(seconds_));
  const unsigned first_minute = static_cast<unsigned>(std::countr_zero(minutes_));
  unsigned hour = count / 3600, minute = count / 60 % 60, second = first_from(seconds_, count % 60);
  if (second == 64) second = first_second, ++minute;
  if (const auto found = first_from(minutes_, minute); found != minute) {
    minute = found, second = first_second;
    if (minute == 64) minute = first_minute, ++hour;
  }
  if (const auto found = first_from(hours_, hour); found != hour) {
    if (found == 64) return std::chrono::days(1);
    hour = found, minute = first_minute, second = first_second;
  }
  return std::chrono::hours(hour) + std::chrono::minutes(minute) + std::chrono::seconds(second);
}

COHORT_INLINE cron::local_seconds cron::next_match(local_seconds time) const {
  using namespace std::chrono;
  time += seconds(1);
  auto day = floor<days>(time);
  auto least = time - day;
  // It ends: the rarest day is 29 February on one weekday, which is 40 years apart where a century has no leap day.
  for (;; least = seconds(0)) {
    const year_month_day date(day);
    if (!has(months_, static_cast<unsigned>(date.month()))) {
      day = local_days((date.year() / date.month() + months(1)) / 1);
      continue;
    }
    if (has_day(day, date)) {
      if (const auto found = time_from(least); found < days(1)) return day + found;
    }
    day += days(1);
  }
}

COHORT_INLINE cron::sys_seconds cron::next_by_clock(sys_seconds after) const {
  auto time = local::local(after, local::offset_at(after));
  for (;;) {
    time = next_match(time);
    const auto moment = local::first_moment_of(time);
    if (moment > after) return moment;  // else one that the clock shows again
  }
}

COHORT_INLINE cron::sys_seconds cron::next_by_hours(sys_seconds after) const {
  auto offset = local::offset_at(after);
  auto time = local::local(after, offset);
  for (;;) {
    const auto found = local::utc(next_match(time), offset);
    if (local::offset_at(found) == offset) return found;
    after = local::change_between(after, found);
    offset = local::offset_at(after);
    time = local::local(after, offset) - std::chrono::seconds(1);
  }
}

}  // namespace cohort
