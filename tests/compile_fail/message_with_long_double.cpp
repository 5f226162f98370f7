// expect: a long double has no portable form
#include <cohort/ipc/codec/codec.hpp>

struct job {
  long double number;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
