// expect: deleted
#include <cohort/core/descriptor.hpp>

int main() {
  const cohort::descriptor owner(0);
  const cohort::descriptor second_owner = owner;
}
