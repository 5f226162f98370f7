// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <time.h>

#include "../core/error.hpp"

namespace cohort {

/// In which time a `cron` is read.
enum class time_zone {
  utc,
  local,  ///< the zone of this process as localtime_r(3) has it; a TZ that changes counts from the next tzset(3) on
};

namespace detail {

/// One field of a cron expression, and the set of its values that an expression names, a bit for each.
struct cron_field {
  std::string_view name;
  unsigned first, last;
  std::string_view names;  // of three letters each, for the values from `first` on

  std::uint64_t all() const noexcept { return ((std::uint64_t{2} << last) - 1) >> first << first; }

  std::uint64_t parse(std::string_view text) const {
    std::uint64_t values = 0;
    for (std::size_t begin = 0; begin <= text.size();) {
      const auto end = std::min(text.find(',', begin), text.size());
      values |= item(text.substr(begin, end - begin), text);
      begin = end + 1;
    }
    return values;
  }

  [[noreturn]] void fail(std::string_view text, std::string_view why) const {
    throw_error(fmt::format("cron: {} \"{}\": {}", name, text, why), errc::invalid_option);
  }

 private:
  std::uint64_t item(std::string_view one, std::string_view text) const {
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

  unsigned value(std::string_view one, std::string_view text) const {
    if (one.size() == 3) {
      for (std::size_t at = 0; at < names.size(); at += 3) {
        if (equal(one, names.substr(at, 3))) return first + static_cast<unsigned>(at / 3);
      }
    }
    const auto parsed = number(one, text);
    if (parsed < first || parsed > last) fail(text, fmt::format("not in {} to {}", first, last));
    return parsed;
  }

  unsigned number(std::string_view digits, std::string_view text) const {
    unsigned parsed = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), parsed);
    if (error == std::errc::result_out_of_range) fail(text, "a number too large");
    if (error != std::errc() || end != digits.data() + digits.size()) {
      fail(text, digits.empty() ? "a value is missing" : fmt::format("\"{}\" is no value of it", digits));
    }
    return parsed;
  }

  static bool equal(std::string_view text, std::string_view name_in_capitals) noexcept {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char capital = text[i] >= 'a' && text[i] <= 'z' ? static_cast<char>(text[i] - 'a' + 'A') : text[i];
      if (capital != name_in_capitals[i]) return false;
    }
    return true;
  }
};

inline constexpr cron_field cron_second{"second", 0, 59, ""};
inline constexpr cron_field cron_minute{"minute", 0, 59, ""};
inline constexpr cron_field cron_hour{"hour", 0, 23, ""};
inline constexpr cron_field cron_day{"day of month", 1, 31, ""};
inline constexpr cron_field cron_month{"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"};
inline constexpr cron_field cron_weekday{"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT"};

/// Local time, by the C library.
struct local_zone {
  using seconds = std::chrono::seconds;
  using sys_seconds = std::chrono::sys_seconds;
  using local_seconds = std::chrono::local_seconds;

  /// What is to be added to UTC.
  static seconds offset_at(sys_seconds time) {
    const time_t since_epoch = time.time_since_epoch().count();
    struct tm fields;
    if (::localtime_r(&since_epoch, &fields) == nullptr) throw_error("cron: localtime_r", errno);
    return seconds(fields.tm_gmtoff);
  }

  static local_seconds local(sys_seconds time, seconds offset) noexcept {
    return local_seconds((time + offset).time_since_epoch());
  }

  static sys_seconds utc(local_seconds time, seconds offset) noexcept {
    return sys_seconds(time.time_since_epoch() - offset);
  }

  /// The first moment with another offset than `before` has, when `after` has another one.
  static sys_seconds change_between(sys_seconds before, sys_seconds after) {
    const auto offset = offset_at(before);
    while (after - before > seconds(1)) {
      const auto middle = before + (after - before) / 2;
      (offset_at(middle) == offset ? before : after) = middle;
    }
    return after;
  }

  /// When the clock shows `time` for the first time, or is put forward over it.
  static sys_seconds first_moment_of(local_seconds time) {
    // No offset is as much as a day, and no two changes are as close to each other as two days.
    const auto day_before = utc(time, std::chrono::days(1)), day_after = utc(time, -std::chrono::days(1));
    const auto old_offset = offset_at(day_before), new_offset = offset_at(day_after);
    const auto by_old = utc(time, old_offset), by_new = utc(time, new_offset);
    if (old_offset == new_offset || offset_at(by_old) == old_offset) return by_old;
    if (offset_at(by_new) == new_offset) return by_new;
    return change_between(day_before, day_after);
  }
};

}  // namespace detail

/// Times of the calendar, by an expression as crontab(5) has it: of five fields (minute, hour, day of month, month, day
/// of week), or of six, with the second in front.
///
///     cohort::cron("30 3 * * MON-FRI")        // at 03:30 from Monday to Friday
///     cohort::cron("*/10 * * * * *")          // each ten seconds
///
/// A field is a list, with commas, of `*`, values and ranges `a-b`; `*` and ranges may have a step, `*/5`. Months and
/// days of the week may be named, JAN or mon; Sunday is 0 and 7. When neither the day of the month nor that of the week
/// begins with `*`, a day is meant that fits either; otherwise, one that fits both. @yearly, @annually, @monthly,
/// @weekly, @daily, @midnight and @hourly stand for what they say.
///
/// In local time, where clocks are put forward and back:
/// - An expression that names hours has each time that it names once a day. One that the clock jumps over is at the
///   moment of the jump (several of them together are one); one that the clock shows twice is the first of the two.
/// - An expression for all hours (`*`) goes by the hours that pass: it has its times in the hour that comes twice,
///   both times, and nothing in place of the hour that is left out. So `*/5 * * * *` never pauses.
///
/// Distinct objects: safe. Shared objects: unsafe, except through const.
class cron {
 public:
  /// Throws errc::invalid_option with the name and the text of the field that is wrong, also for a day that no year has
  /// (30 February).
  explicit cron(std::string_view expression) : text_(expression) {
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

  /// The expression as it was given.
  const std::string& text() const noexcept { return text_; }

  /// The first time after `time`. There is always one, within 41 years.
  std::chrono::sys_seconds next_after(std::chrono::system_clock::time_point time, time_zone zone) const {
    const auto after = std::chrono::floor<std::chrono::seconds>(time);
    if (zone == time_zone::utc) return local::utc(next_match(local::local(after, {})), {});
    return hours_ == detail::cron_hour.all() ? next_by_hours(after) : next_by_clock(after);
  }

 private:
  using local = detail::local_zone;
  using sys_seconds = std::chrono::sys_seconds;
  using local_seconds = std::chrono::local_seconds;

  static std::string_view alias(std::string_view expression) {
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

  static std::vector<std::string_view> split(std::string_view expression) {
    constexpr std::string_view blanks = " \t";
    std::vector<std::string_view> fields;
    for (std::size_t at = 0; (at = expression.find_first_not_of(blanks, at)) != expression.npos;) {
      const auto end = std::min(expression.find_first_of(blanks, at), expression.size());
      fields.push_back(expression.substr(at, end - at));
      at = end;
    }
    return fields;
  }

  int longest_month() const noexcept {
    constexpr std::uint64_t of_31 = 0b1'0101'1010'1010, of_30 = 0b0'1010'0101'0000;
    return (months_ & of_31) != 0 ? 31 : (months_ & of_30) != 0 ? 30 : 29;
  }

  static bool has(std::uint64_t set, unsigned value) noexcept { return (set >> value & 1) != 0; }

  bool has_day(std::chrono::local_days day, std::chrono::year_month_day date) const noexcept {
    const bool in_month = has(days_, static_cast<unsigned>(date.day()));
    const bool in_week = has(weekdays_, std::chrono::weekday(day).c_encoding());
    return either_day_ ? in_month || in_week : in_month && in_week;
  }

  /// The first value of the set that is not below `least`; 64 if there is none.
  static unsigned first_from(std::uint64_t set, unsigned least) noexcept {
    return static_cast<unsigned>(std::countr_zero(least < 64 ? set >> least << least : 0));
  }

  /// The first time of a day that is not before `least`; a whole day if there is none.
  std::chrono::seconds time_from(std::chrono::seconds least) const noexcept {
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

  /// The first time after `time` that the fields name, whatever clocks do.
  local_seconds next_match(local_seconds time) const {
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

  sys_seconds next_by_clock(sys_seconds after) const {
    auto time = local::local(after, local::offset_at(after));
    for (;;) {
      time = next_match(time);
      const auto moment = local::first_moment_of(time);
      if (moment > after) return moment;  // else one that the clock shows again
    }
  }

  sys_seconds next_by_hours(sys_seconds after) const {
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

  std::string text_;
  std::uint64_t seconds_, minutes_, hours_, days_, months_, weekdays_;
  bool either_day_;
};

}  // namespace cohort
