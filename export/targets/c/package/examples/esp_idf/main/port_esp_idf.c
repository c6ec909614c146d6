/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The example as a task of ESP-IDF; its own `main` is called read_recording here. */
#include "port.h"

#include <stdio.h>

int read_recording(void);
void app_main(void);

void say(const char *text) { (void)fputs(text, stdout); }

void app_main(void) { printf("read_recording: %d\n", read_recording()); }
