// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/schedule/cron.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <time.h>

#include "../support/harness.hpp"

namespace cohort::test::cron_test {
namespace {

using std::chrono::sys_seconds;

/// "2024-02-29 12:00:00", in UTC.
sys_seconds at(const std::string& text) {
  struct tm fields = {};
  const char* end = ::strptime(text.c_str(), "%Y-%m-%d %H:%M:%S", &fields);
  REQUIRE(end != nullptr);
  REQUIRE(*end == '\0');
  return sys_seconds(std::chrono::seconds(::timegm(&fields)));
}

std::string formatted(const struct tm& fields, const char* format) {
  std::array<char, 64> text;
  return std::string(text.data(), ::strftime(text.data(), text.size(), format, &fields));
}

std::string utc_text(sys_seconds time) {
  const time_t seconds = time.time_since_epoch().count();
  struct tm fields;
  return formatted(*::gmtime_r(&seconds, &fields), "%Y-%m-%d %H:%M:%S");
}

/// With the zone's name: "2024-03-31 03:00:00 CEST".
std::string local_text(sys_seconds time) {
  const time_t seconds = time.time_since_epoch().count();
  struct tm fields;
  return formatted(*::localtime_r(&seconds, &fields), "%Y-%m-%d %H:%M:%S %Z");
}

using texts = std::vector<std::string>;

texts after(std::string_view expression, const std::string& begin, int count) {
  const cron times(expression);
  texts found;
  for (auto time = at(begin); count > 0; --count) {
    time = times.next_after(time, time_zone::utc);
    found.push_back(utc_text(time));
  }
  return found;
}

std::string first_after(std::string_view expression, const std::string& begin) {
  return after(expression, begin, 1).front();
}

/// Why an expression is refused; empty if it is not.
std::string refusal(std::string_view expression) {
  try {
    const cron accepted(expression);
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::invalid_option);
    return error.what();
  }
  return {};
}

/// The local time zone while it lives. Given as a rule (tzset(3)), so that no file of time zones is needed.
class local_time {
 public:
  explicit local_time(const char* rule) {
    if (const char* before = std::getenv("TZ")) before_ = before;
    ::setenv("TZ", rule, 1);
    ::tzset();
  }
  local_time(const local_time&) = delete;
  ~local_time() {
    before_ ? ::setenv("TZ", before_->c_str(), 1) : ::unsetenv("TZ");
    ::tzset();
  }

 private:
  std::optional<std::string> before_;
};

constexpr const char* berlin = "CET-1CEST,M3.5.0,M10.5.0/3";               // Europe/Berlin since 1996
constexpr const char* lord_howe = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";  // by half an hour
constexpr const char* santiago = "<-04>4<-03>,M9.1.6/24,M4.1.6/24";        // at midnight
constexpr const char* new_york = "EST5EDT,M3.2.0,M11.1.0";

texts local_after(std::string_view expression, const std::string& begin, int count) {
  const cron times(expression);
  texts found;
  for (auto time = at(begin); count > 0; --count) {
    time = times.next_after(time, time_zone::local);
    found.push_back(local_text(time));
  }
  return found;
}

PLAIN_TEST("the next time of an expression, by a table") {
  struct row {
    const char *expression, *begin, *expected;
  };
  const std::vector<row> table{
      {"* * * * *", "2024-01-01 00:00:00", "2024-01-01 00:01:00"},
      {"* * * * *", "2024-01-01 00:00:59", "2024-01-01 00:01:00"},
      {"* * * * * *", "2024-01-01 00:00:59", "2024-01-01 00:01:00"},
      {"* * * * * *", "2024-12-31 23:59:59", "2025-01-01 00:00:00"},
      {"59 59 23 31 12 *", "2024-12-31 23:59:58", "2024-12-31 23:59:59"},
      {"59 59 23 31 12 *", "2024-12-31 23:59:59", "2025-12-31 23:59:59"},
      {"30 3 * * *", "2024-01-01 03:29:59", "2024-01-01 03:30:00"},
      {"30 3 * * *", "2024-01-01 03:30:00", "2024-01-02 03:30:00"},
      {"15,45 9-10 * * *", "2024-01-01 09:15:00", "2024-01-01 09:45:00"},
      {"15,45 9-10 * * *", "2024-01-01 09:45:00", "2024-01-01 10:15:00"},
      {"15,45 9-10 * * *", "2024-01-01 10:45:00", "2024-01-02 09:15:00"},
      {"*/20 * * * *", "2024-01-01 12:40:00", "2024-01-01 13:00:00"},
      {"*/7 * * * *", "2024-01-01 12:56:00", "2024-01-01 13:00:00"},
      {"10-50/20 * * * *", "2024-01-01 12:50:30", "2024-01-01 13:10:00"},
      {"5 30 8 * * *", "2024-01-01 08:30:04", "2024-01-01 08:30:05"},
      {"5 30 8 * * *", "2024-01-01 08:30:06", "2024-01-02 08:30:05"},
      {"10,20 5 * * * *", "2024-01-01 08:05:20", "2024-01-01 09:05:10"},
      {"0 0 */2 * * *", "2024-01-01 22:00:00", "2024-01-02 00:00:00"},
      // months and their ends
      {"0 0 31 * *", "2024-01-31 00:00:00", "2024-03-31 00:00:00"},
      {"0 0 31 * *", "2024-03-31 00:00:00", "2024-05-31 00:00:00"},
      {"0 0 30 * *", "2024-01-30 00:00:00", "2024-03-30 00:00:00"},
      {"0 0 1 * *", "2024-11-15 00:00:00", "2024-12-01 00:00:00"},
      {"0 0 1 * *", "2024-12-15 00:00:00", "2025-01-01 00:00:00"},
      {"0 0 1 JAN *", "2024-01-01 00:00:00", "2025-01-01 00:00:00"},
      {"0 12 15 jan,Jul *", "2024-02-01 00:00:00", "2024-07-15 12:00:00"},
      {"0 0 1 */3 *", "2024-02-01 00:00:00", "2024-04-01 00:00:00"},
      {"0 0 1 NOV-DEC *", "2024-12-01 00:00:00", "2025-11-01 00:00:00"},
      // leap years
      {"0 0 29 2 *", "2023-01-01 00:00:00", "2024-02-29 00:00:00"},
      {"0 0 29 2 *", "2024-02-29 00:00:00", "2028-02-29 00:00:00"},
      {"0 0 29 2 *", "1999-01-01 00:00:00", "2000-02-29 00:00:00"},
      {"0 0 29 2 *", "2096-02-29 00:00:00", "2104-02-29 00:00:00"},
      {"59 23 28 2 *", "2024-02-28 23:59:00", "2025-02-28 23:59:00"},
      {"0 0 29 2 */7", "2072-03-01 00:00:00", "2088-02-29 00:00:00"},
      {"0 0 29 2 */7", "2088-03-01 00:00:00", "2128-02-29 00:00:00"},
      // days of the week; 2024-01-01 is a Monday
      {"0 9 * * MON", "2024-01-01 09:00:00", "2024-01-08 09:00:00"},
      {"0 9 * * 0", "2024-01-01 00:00:00", "2024-01-07 09:00:00"},
      {"0 9 * * 7", "2024-01-01 00:00:00", "2024-01-07 09:00:00"},
      {"0 9 * * sun", "2024-01-01 00:00:00", "2024-01-07 09:00:00"},
      {"0 9 * * 1-5", "2024-01-05 09:00:00", "2024-01-08 09:00:00"},
      {"0 9 * * FRI-SUN", "2024-01-01 00:00:00", "2024-01-05 09:00:00"},
      {"0 9 * * FRI-SUN", "2024-01-06 09:00:00", "2024-01-07 09:00:00"},
      {"0 9 * * 5-7", "2024-01-07 09:00:00", "2024-01-12 09:00:00"},
      {"0 9 * * SUN-TUE", "2024-01-02 09:00:00", "2024-01-07 09:00:00"},
      // either day, when neither field begins with *
      {"0 0 13 * FRI", "2024-01-01 00:00:00", "2024-01-05 00:00:00"},
      {"0 0 13 * FRI", "2024-01-12 00:00:00", "2024-01-13 00:00:00"},
      {"0 0 13 * 0-6", "2024-01-12 00:00:00", "2024-01-13 00:00:00"},
      {"0 0 30 2 MON", "2024-01-01 00:00:00", "2024-02-05 00:00:00"},
      // both, when one does
      {"0 0 */2 * MON", "2024-01-01 00:00:00", "2024-01-15 00:00:00"},
      {"0 0 1 * */2", "2024-01-01 00:00:00", "2024-02-01 00:00:00"},
      {"0 0 1 * */2", "2024-02-01 00:00:00", "2024-06-01 00:00:00"},
      // before the epoch
      {"0 0 * * *", "1969-07-20 20:17:40", "1969-07-21 00:00:00"},
      // blanks
      {"  0\t0  *  * * ", "2024-01-01 00:00:00", "2024-01-02 00:00:00"},
      {"@yearly", "2024-01-01 00:00:00", "2025-01-01 00:00:00"},
      {"@annually", "2024-01-01 00:00:00", "2025-01-01 00:00:00"},
      {"@monthly", "2024-01-01 00:00:00", "2024-02-01 00:00:00"},
      {"@weekly", "2024-01-01 00:00:00", "2024-01-07 00:00:00"},
      {"@daily", "2024-01-01 00:00:00", "2024-01-02 00:00:00"},
      {"@midnight", "2024-01-01 00:00:00", "2024-01-02 00:00:00"},
      {"@hourly", "2024-01-01 00:00:00", "2024-01-01 01:00:00"},
  };
  for (const auto& [expression, begin, expected] : table) {
    CAPTURE(expression);
    CAPTURE(begin);
    CHECK(first_after(expression, begin) == expected);
  }
}

PLAIN_TEST("the next time is after a moment within a second") {
  const auto moment = at("2024-01-01 00:00:10") + 300ms;
  const cron each_second("* * * * * *");
  CHECK(utc_text(each_second.next_after(moment, time_zone::utc)) == "2024-01-01 00:00:11");
  CHECK(utc_text(each_second.next_after(moment - 300ms, time_zone::utc)) == "2024-01-01 00:00:11");
  CHECK(utc_text(each_second.next_after(moment - 301ms, time_zone::utc)) == "2024-01-01 00:00:10");
}

PLAIN_TEST("an expression keeps the text that it was given") { CHECK(cron("@daily").text() == "@daily"); }

PLAIN_TEST("what is no expression is refused with the name and the text of its field") {
  struct row {
    const char *expression, *expected;
  };
  const std::vector<row> table{
      {"", "cron: \"\": 0 fields, not 5 or 6: invalid option"},
      {"* * * *", "cron: \"* * * *\": 4 fields, not 5 or 6: invalid option"},
      {"* * * * * * *", "cron: \"* * * * * * *\": 7 fields, not 5 or 6: invalid option"},
      {"60 * * * *", "cron: minute \"60\": not in 0 to 59: invalid option"},
      {"60 * * * * *", "cron: second \"60\": not in 0 to 59: invalid option"},
      {"* 24 * * *", "cron: hour \"24\": not in 0 to 23: invalid option"},
      {"* * 0 * *", "cron: day of month \"0\": not in 1 to 31: invalid option"},
      {"* * 32 * *", "cron: day of month \"32\": not in 1 to 31: invalid option"},
      {"* * * 0 *", "cron: month \"0\": not in 1 to 12: invalid option"},
      {"* * * 13 *", "cron: month \"13\": not in 1 to 12: invalid option"},
      {"* * * * 8", "cron: day of week \"8\": not in 0 to 7: invalid option"},
      {"1,2,60 * * * *", "cron: minute \"1,2,60\": not in 0 to 59: invalid option"},
      {"99999999999 * * * *", "cron: minute \"99999999999\": a number too large: invalid option"},
      {"? * * * *", "cron: minute \"?\": \"?\" is no value of it: invalid option"},
      {"* * ? * *", "cron: day of month \"?\": \"?\" is no value of it: invalid option"},
      {"* * L * *", "cron: day of month \"L\": \"L\" is no value of it: invalid option"},
      {"* * * * 5#2", "cron: day of week \"5#2\": \"5#2\" is no value of it: invalid option"},
      {"-1 * * * *", "cron: minute \"-1\": a value is missing: invalid option"},
      {"+1 * * * *", "cron: minute \"+1\": \"+1\" is no value of it: invalid option"},
      {"1.5 * * * *", "cron: minute \"1.5\": \"1.5\" is no value of it: invalid option"},
      {"** * * * *", "cron: minute \"**\": \"**\" is no value of it: invalid option"},
      {"1, * * * *", "cron: minute \"1,\": a value is missing: invalid option"},
      {",1 * * * *", "cron: minute \",1\": a value is missing: invalid option"},
      {"1,,2 * * * *", "cron: minute \"1,,2\": a value is missing: invalid option"},
      {"1- * * * *", "cron: minute \"1-\": a value is missing: invalid option"},
      {"1-2-3 * * * *", "cron: minute \"1-2-3\": \"2-3\" is no value of it: invalid option"},
      {"*-5 * * * *", "cron: minute \"*-5\": \"*\" is no value of it: invalid option"},
      {"9-5 * * * *", "cron: minute \"9-5\": a range that ends before it begins: invalid option"},
      {"* * * * 5-0", "cron: day of week \"5-0\": a range that ends before it begins: invalid option"},
      {"* * * * FRI-MON", "cron: day of week \"FRI-MON\": a range that ends before it begins: invalid option"},
      {"*/0 * * * *", "cron: minute \"*/0\": a step is 1 to 59: invalid option"},
      {"*/60 * * * *", "cron: minute \"*/60\": a step is 1 to 59: invalid option"},
      {"*/ * * * *", "cron: minute \"*/\": a value is missing: invalid option"},
      {"*/5/2 * * * *", "cron: minute \"*/5/2\": \"5/2\" is no value of it: invalid option"},
      {"*/x * * * *", "cron: minute \"*/x\": \"x\" is no value of it: invalid option"},
      {"5/15 * * * *", "cron: minute \"5/15\": a step needs * or a range before it: invalid option"},
      {"MON * * * *", "cron: minute \"MON\": \"MON\" is no value of it: invalid option"},
      {"* * * MON *", "cron: month \"MON\": \"MON\" is no value of it: invalid option"},
      {"* * * JANUARY *", "cron: month \"JANUARY\": \"JANUARY\" is no value of it: invalid option"},
      {"* * * NFE *", "cron: month \"NFE\": \"NFE\" is no value of it: invalid option"},
      {"* * * * JAN", "cron: day of week \"JAN\": \"JAN\" is no value of it: invalid option"},
      {"@reboot", "cron: \"@reboot\": unknown name: invalid option"},
      {"@daily ", "cron: \"@daily \": unknown name: invalid option"},
      {"@", "cron: \"@\": unknown name: invalid option"},
      {"* * * *\n*", "cron: \"* * * *\n*\": 4 fields, not 5 or 6: invalid option"},
      {"0 0 30 2 *", "cron: day of month \"30\": not in month \"2\": invalid option"},
      {"0 0 30-31 FEB *", "cron: day of month \"30-31\": not in month \"FEB\": invalid option"},
      {"0 0 31 2,4,6,9,11 *", "cron: day of month \"31\": not in month \"2,4,6,9,11\": invalid option"},
      {"0 0 30 2 */2", "cron: day of month \"30\": not in month \"2\": invalid option"},
  };
  for (const auto& [expression, expected] : table) {
    CAPTURE(expression);
    CHECK(refusal(expression) == expected);
  }
}

PLAIN_TEST("a day that only some of the months have is taken") {
  CHECK(refusal("0 0 31 4,5 *").empty());
  CHECK(refusal("0 0 30 2,4 *").empty());
  CHECK(refusal("0 0 29 2 *").empty());
  CHECK(refusal("0 0 29,30 2 *").empty());
}

/// A field that is `*`, a step, a range with one, or a list, at random.
std::string random_field(std::mt19937& random, unsigned first, unsigned last) {
  const auto value = [&] { return first + static_cast<unsigned>(random() % (last - first + 1)); };
  auto low = value(), high = value();
  if (low > high) std::swap(low, high);
  switch (random() % 5) {
    case 0: return "*";
    case 1: return "*/" + std::to_string(1 + random() % last);
    case 2: return std::to_string(low) + "-" + std::to_string(high) + "/" + std::to_string(1 + random() % 5);
    case 3: return std::to_string(low) + "," + std::to_string(high);
    default: return std::to_string(low);
  }
}

/// The values that such a field names, told by trying each.
std::array<bool, 60> values_of(const std::string& text, int first, int last) {
  std::array<bool, 60> values{};
  for (int value = first; value <= last; ++value) {
    int low = 0, high = 0, step = 1;
    bool& in = values[static_cast<std::size_t>(value)];
    if (text == "*") {
      in = true;
    } else if (std::sscanf(text.c_str(), "*/%d", &step) == 1) {
      in = (value - first) % step == 0;
    } else if (std::sscanf(text.c_str(), "%d-%d/%d", &low, &high, &step) == 3) {
      in = value >= low && value <= high && (value - low) % step == 0;
    } else if (std::sscanf(text.c_str(), "%d,%d", &low, &high) == 2) {
      in = value == low || value == high;
    } else {
      in = value == std::stoi(text);
    }
  }
  return values;
}

PLAIN_TEST("the next time is the one that looking at each minute finds") {
  std::mt19937 random(20240229);
  int compared = 0;
  for (int run = 0; run < 300; ++run) {
    const auto minute = random_field(random, 0, 59), hour = random_field(random, 0, 23);
    const auto day = random_field(random, 1, 31), month = random_field(random, 1, 12);
    const auto weekday = random_field(random, 0, 6);
    const auto expression = minute + ' ' + hour + ' ' + day + ' ' + month + ' ' + weekday;
    CAPTURE(expression);
    if (!refusal(expression).empty()) continue;
    const auto minutes = values_of(minute, 0, 59), hours = values_of(hour, 0, 23), days = values_of(day, 1, 31),
               months = values_of(month, 1, 12), weekdays = values_of(weekday, 0, 6);
    const bool either = day[0] != '*' && weekday[0] != '*';

    const auto begin = at("2023-01-01 00:00:00") + std::chrono::minutes(random() % (4 * 366 * 24 * 60));
    const auto found = cron(expression).next_after(begin, time_zone::utc);
    for (auto each = begin + 1min; each < begin + std::chrono::days(60); each += 1min) {
      const time_t seconds = each.time_since_epoch().count();
      struct tm fields;
      ::gmtime_r(&seconds, &fields);
      const auto has = [](const auto& values, int value) { return values[static_cast<std::size_t>(value)]; };
      const bool in_month = has(days, fields.tm_mday), in_week = has(weekdays, fields.tm_wday);
      const bool matches = has(minutes, fields.tm_min) && has(hours, fields.tm_hour) &&
                           has(months, fields.tm_mon + 1) && (either ? in_month || in_week : in_month && in_week);
      if (matches != (each == found))
        FAIL_CHECK(utc_text(begin), ": found ", utc_text(found), ", not ", utc_text(each));
      if (matches) ++compared;
      if (matches || each == found) break;
    }
  }
  CHECK(compared > 100);
}

PLAIN_TEST("local time is that of the time zone, in summer and in winter") {
  const local_time zone(berlin);
  CHECK(local_after("30 3 * * *", "2024-01-15 12:00:00", 1) == texts{"2024-01-16 03:30:00 CET"});
  CHECK(local_after("30 3 * * *", "2024-07-15 12:00:00", 1) == texts{"2024-07-16 03:30:00 CEST"});
  CHECK(local_after("0 12 1 7 *", "2024-01-15 12:00:00", 2) ==
        texts{"2024-07-01 12:00:00 CEST", "2025-07-01 12:00:00 CEST"});
  CHECK(local_after("0 * 1 7 *", "2024-01-15 12:00:00", 2) ==
        texts{"2024-07-01 00:00:00 CEST", "2024-07-01 01:00:00 CEST"});
  CHECK(local_after("0 * 1 1,7 *", "2024-07-01 20:30:00", 1) == texts{"2024-07-01 23:00:00 CEST"});
  CHECK(local_after("0 * 1 1,7 *", "2024-07-01 21:30:00", 1) == texts{"2025-01-01 00:00:00 CET"});
  CHECK(first_after("30 3 * * *", "2024-07-15 12:00:00") == "2024-07-16 03:30:00");  // utc all the same
}

PLAIN_TEST("a time that the clock jumps over is at the moment of the jump") {
  const local_time zone(berlin);
  CHECK(local_after("30 2 * * *", "2024-03-29 12:00:00", 3) ==
        texts{"2024-03-30 02:30:00 CET", "2024-03-31 03:00:00 CEST", "2024-04-01 02:30:00 CEST"});
  CHECK(local_after("0 2 31 3 *", "2024-03-29 12:00:00", 1) == texts{"2024-03-31 03:00:00 CEST"});
  CHECK(local_after("59 1 * * *", "2024-03-30 12:00:00", 1) == texts{"2024-03-31 01:59:00 CET"});
  CHECK(local_after("0 3 * * *", "2024-03-30 12:00:00", 2) ==
        texts{"2024-03-31 03:00:00 CEST", "2024-04-01 03:00:00 CEST"});
}

PLAIN_TEST("several times that the clock jumps over are one, also with the time at which it arrives") {
  const local_time zone(berlin);
  CHECK(local_after("*/20 2 * * *", "2024-03-30 12:00:00", 3) ==
        texts{"2024-03-31 03:00:00 CEST", "2024-04-01 02:00:00 CEST", "2024-04-01 02:20:00 CEST"});
  CHECK(local_after("0,30 2-3 * * *", "2024-03-30 12:00:00", 3) ==
        texts{"2024-03-31 03:00:00 CEST", "2024-03-31 03:30:00 CEST", "2024-04-01 02:00:00 CEST"});
}

PLAIN_TEST("a time that the clock shows twice is the first of the two") {
  const local_time zone(berlin);
  CHECK(local_after("30 2 * * *", "2024-10-26 12:00:00", 2) ==
        texts{"2024-10-27 02:30:00 CEST", "2024-10-28 02:30:00 CET"});
  CHECK(local_after("0 3 * * *", "2024-10-26 12:00:00", 2) ==
        texts{"2024-10-27 03:00:00 CET", "2024-10-28 03:00:00 CET"});
  CHECK(local_after("0,30 1-3 * * *", "2024-10-26 12:00:00", 7) ==
        texts{"2024-10-27 01:00:00 CEST", "2024-10-27 01:30:00 CEST", "2024-10-27 02:00:00 CEST",
              "2024-10-27 02:30:00 CEST", "2024-10-27 03:00:00 CET", "2024-10-27 03:30:00 CET",
              "2024-10-28 01:00:00 CET"});
  // asked for within the hour that is there for the second time
  CHECK(local_after("45 2 * * *", "2024-10-27 01:30:00", 1) == texts{"2024-10-28 02:45:00 CET"});
  CHECK(local_after("* * 2-3 * * *", "2024-10-27 01:30:00", 1) == texts{"2024-10-27 03:00:00 CET"});
}

PLAIN_TEST("an expression for all hours goes by the hours that pass") {
  const local_time zone(berlin);
  CHECK(local_after("30 * * * *", "2024-03-31 00:00:00", 3) ==
        texts{"2024-03-31 01:30:00 CET", "2024-03-31 03:30:00 CEST", "2024-03-31 04:30:00 CEST"});
  CHECK(local_after("30 * * * *", "2024-10-26 23:00:00", 4) ==
        texts{"2024-10-27 01:30:00 CEST", "2024-10-27 02:30:00 CEST", "2024-10-27 02:30:00 CET",
              "2024-10-27 03:30:00 CET"});
  CHECK(local_after("0 * * * *", "2024-10-26 23:30:00", 3) ==
        texts{"2024-10-27 02:00:00 CEST", "2024-10-27 02:00:00 CET", "2024-10-27 03:00:00 CET"});
  CHECK(local_after("0 * * * *", "2024-03-30 23:30:00", 2) ==
        texts{"2024-03-31 01:00:00 CET", "2024-03-31 03:00:00 CEST"});
}

PLAIN_TEST("whatever the zone, an expression for each five minutes never pauses, and one for an hour is once a day") {
  for (const char* rule : {berlin, lord_howe, santiago, new_york, "UTC0", "<+0545>-5:45"}) {
    CAPTURE(rule);
    const local_time zone(rule);
    const cron often("*/5 * * * *");
    auto time = at("2024-01-01 00:00:00");
    const auto end = at("2025-01-01 00:00:00");
    while (time < end) {
      const auto next = often.next_after(time, time_zone::local);
      if (next - time != 5min) FAIL_CHECK(local_text(time), " to ", local_text(next));
      time = next;
    }
    for (int hour = 0; hour < 24; ++hour) {
      const cron daily("15 " + std::to_string(hour) + " * * *");
      CAPTURE(daily.text());
      int days = 0;
      for (time = daily.next_after(at("2024-01-01 12:00:00"), time_zone::local); time <= at("2025-01-01 12:00:00");
           ++days) {
        const auto next = daily.next_after(time, time_zone::local);
        // 23 to 25 hours, and half an hour apart from them where a time is replaced by the jump
        if (next - time < 23h - 15min || next - time > 25h + 15min)
          FAIL_CHECK(local_text(time), " to ", local_text(next));
        time = next;
      }
      CHECK(days == 366);
    }
  }
}

PLAIN_TEST("a clock that jumps at midnight, or by half an hour, is served too") {
  {
    const local_time zone(santiago);
    CHECK(local_after("30 0 * * *", "2024-09-07 12:00:00", 2) ==
          texts{"2024-09-08 01:00:00 -03", "2024-09-09 00:30:00 -03"});
    CHECK(local_after("30 23 * * *", "2024-04-06 12:00:00", 2) ==
          texts{"2024-04-06 23:30:00 -03", "2024-04-07 23:30:00 -04"});
  }
  const local_time zone(lord_howe);
  CHECK(local_after("15 2 * * *", "2024-10-05 00:00:00", 2) ==
        texts{"2024-10-06 02:30:00 +11", "2024-10-07 02:15:00 +11"});
  CHECK(local_after("45 1 * * *", "2024-04-06 00:00:00", 2) ==
        texts{"2024-04-07 01:45:00 +11", "2024-04-08 01:45:00 +1030"});
}

}  // namespace
}  // namespace cohort::test::cron_test
