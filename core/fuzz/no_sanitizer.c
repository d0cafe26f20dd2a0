/* What libFuzzer asks of a sanitizer's runtime. The targets are built without one, and libFuzzer warns of each function
   that it does not find. */

int __sanitizer_acquire_crash_state(void) { return 1; }

void __sanitizer_print_stack_trace(void) {}

void __sanitizer_set_death_callback(void (*callback)(void)) { (void)callback; }
