"""What was delivered to this device: releases side by side, one of them current, and updates."""
