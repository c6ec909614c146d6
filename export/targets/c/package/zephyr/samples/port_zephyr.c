/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
#include "port.h"

#include <zephyr/sys/printk.h>

void say(const char *text) { printk("%s", text); }
