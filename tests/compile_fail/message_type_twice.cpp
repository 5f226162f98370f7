// expect: two alternatives of a message are the same type
#include <variant>

#include <cohort/ipc/codec/schema.hpp>

struct job {};

int main() { return static_cast<int>(cohort::message_set<std::variant<job, int, job>>::size); }
