"""What results are written down with: tables, pictures, versions and machine."""
