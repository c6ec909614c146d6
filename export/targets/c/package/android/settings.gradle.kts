// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "libxmae"
